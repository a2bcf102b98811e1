"""Soft entropy and mutual information by the package soft-entropy; runs in its own environment.

    python tests/oracles/soft_entropy.py IN.npz OUT.npz

Given `x (n, d)`, `labels (n,)`, `points`, `seed` and unit vectors `directions (points, d)`.
"""

from __future__ import annotations

import sys
from pathlib import Path

# The folder of this file holds a module of the package's name.
sys.path = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).parent]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from soft_entropy.accumulator import SoftEntropyAccumulator  # noqa: E402
from soft_entropy.temp_calibration import find_eps, sphere_temp_calibration  # noqa: E402


def accumulated(
    given: dict[str, np.ndarray], backend: str, batches: int
) -> tuple[float, float, np.ndarray]:
    """Return entropy, raw information and the reference points of the package's accumulator."""
    x, labels = given["x"], given["labels"]
    one = SoftEntropyAccumulator(
        x.shape[1], n_bins=int(given["points"]), seed=int(given["seed"]), backend=backend
    )
    drawn = np.asarray(one.w)
    if backend == "torch":
        one.w = torch.from_numpy(given["directions"]).to(one.w)
    for rows in np.array_split(np.arange(len(x)), batches):
        part = x[rows].astype(np.float32)
        one.update(torch.from_numpy(part) if backend == "torch" else part, labels[rows])
    return one.entropy(), one.mutual_information()["labels"], drawn


def main() -> None:
    """Read, compute, write."""
    with np.load(sys.argv[1]) as file:
        given = {key: file[key] for key in file.files}
    points = int(given["points"])
    found: dict[str, object] = {
        "temperatures": [find_eps(points, d) for d in (8, 32, 128, 512, 2048)],
        "exact_temperatures": [
            sphere_temp_calibration(points, d, mode="exact") for d in (3, 8, 32, 128)
        ],
    }
    for backend in ("numpy", "torch"):
        entropy, information, drawn = accumulated(given, backend, 3)
        found |= {f"{backend}_entropy": entropy, f"{backend}_information": information}
        if backend == "numpy":
            found["drawn"] = drawn
    np.savez(sys.argv[2], **{key: np.asarray(value) for key, value in found.items()})


if __name__ == "__main__":
    main()
