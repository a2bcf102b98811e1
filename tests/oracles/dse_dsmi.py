"""Runs dse-dsmi on given arrays: `python dse_dsmi.py IN.npz OUT.npz`, inside its own environment."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np

# This file has the package's name and would be imported in its place.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).parent]

from dse_dsmi import diffusion_spectral_entropy, diffusion_spectral_mutual_information  # noqa: E402


def main(given: str, found: str) -> None:
    """Answer one entropy per (array, bandwidth, power), and one information per labelled array."""
    data = np.load(given)
    count = int(data["count"])
    entropies = []
    for i in range(count):
        # Without a path no eigenvalues are kept, so that none is rounded to float16.
        row = [
            diffusion_spectral_entropy(
                data[f"x{i}"], gaussian_kernel_sigma=float(s), t=int(t), eigval_save_path=None
            )
            for s, t in zip(data["bandwidths"][i], data["powers"], strict=True)
        ]
        entropies.append(row)
    information, subsets = [], {}
    for i in range(count):
        labels = data[f"labels{i}"]
        value, _ = diffusion_spectral_mutual_information(
            data[f"x{i}"],
            labels.reshape(-1, 1),
            gaussian_kernel_sigma=float(data["bandwidths"][i][0]),
            num_repetitions=int(data["repetitions"]),
            random_seed=0,
        )
        information.append(value)
        # The draws that the package makes for every class, from the seed it sets each time.
        for name, size in zip(*np.unique(labels, return_counts=True), strict=True):
            random.seed(0)
            subsets[f"draws{i}_{name}"] = np.array(
                [random.sample(range(labels.size), k=size) for _ in range(int(data["repetitions"]))]
            )
    np.savez(found, entropies=np.array(entropies), information=np.array(information), **subsets)


if __name__ == "__main__":
    main(*sys.argv[1:])
