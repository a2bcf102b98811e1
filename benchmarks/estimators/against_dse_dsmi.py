"""Speed and agreement of diffusion entropy and information against the package dse-dsmi 1.1.

Both read the same arrays, on one thread each, in turns; every round gives one ratio and the table
shows their median. The package runs in the environment that
`INFOPLANE_REQUIRE=oracles pytest tests/oracles/test_dse_dsmi.py` makes, or in one that is given:

    python benchmarks/estimators/against_dse_dsmi.py [--python INTERPRETER] [--json OUT] [--write]

`--write` leaves a dated page beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

# Before numpy and torch are loaded, and inherited by the other process.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402

D = 64
CASES = (
    (1024, "exact"),
    (1024, "exact with band"),
    (2048, "exact"),
    (2048, "exact with band"),
    (4096, "exact"),
    (4096, "lanczos"),
)
CLASSES = 10


def rows(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return ten overlapping clusters and their labels."""
    r = np.random.default_rng(n)
    labels = r.integers(0, CLASSES, n)
    return r.normal(size=(CLASSES, D))[labels] + 0.7 * r.normal(size=(n, D)), labels


def timed(call: Callable[[], Any]) -> dict[str, float]:
    """Return the value of a call, its wall and its processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    value = call()
    return {
        "value": float(value),
        "wall": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
    }


def serve() -> None:
    """Answer requests of the other side with the package; one JSON line each."""
    from dse_dsmi import diffusion_spectral_entropy, diffusion_spectral_mutual_information

    def entropy(x: np.ndarray, labels: np.ndarray, sigma: float) -> float:
        return float(diffusion_spectral_entropy(x, gaussian_kernel_sigma=sigma))

    def information(x: np.ndarray, labels: np.ndarray, sigma: float) -> float:
        value, _ = diffusion_spectral_mutual_information(
            x, labels.reshape(-1, 1), gaussian_kernel_sigma=sigma
        )
        return float(value)

    known = {"entropy": entropy, "information": information}
    for line in sys.stdin:
        request = json.loads(line)
        with np.load(request["file"]) as file:
            given = file["x"], file["labels"], request["bandwidth"]
        print(json.dumps(timed(partial(known[request["what"]], *given))), flush=True)


class Package:
    """The other package in a process of its own."""

    def __init__(self, python: str) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [python, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, what: str, file: Path, bandwidth: float) -> dict[str, float]:
        """Return value and times of one call."""
        assert self._process.stdin
        assert self._process.stdout
        request = {"what": what, "file": str(file), "bandwidth": bandwidth}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, float] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """Stop it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def compare(
    name: str, n: int, rounds: int, ours: Callable[[], Any], theirs: Callable[[], dict[str, float]]
) -> dict[str, Any]:
    """Return medians of alternated rounds; the first of each side is not counted."""
    timed(ours)
    theirs()
    pairs = [(timed(ours), theirs()) for _ in range(rounds)]
    return {
        "case": name,
        "n": n,
        "rounds": rounds,
        "ours": pairs[0][0]["value"],
        "theirs": pairs[0][1]["value"],
        "ours_processor": median(a["processor"] for a, _ in pairs),
        "theirs_processor": median(b["processor"] for _, b in pairs),
        "ratio_processor": median(b["processor"] / a["processor"] for a, b in pairs),
        "ratio_wall": median(b["wall"] / a["wall"] for a, b in pairs),
    }


def our_value(x: Any, labels: Any, bandwidth: float, method: Any) -> float:
    """Return the entropy by a method, or the information."""
    from infoplane.estimators.geometry.diffusion_entropy import diffusion_entropy
    from infoplane.estimators.geometry.diffusion_information import diffusion_mi

    if method == "information":
        # The null is one more set per class, which the package does not compute.
        return diffusion_mi(x, labels, bandwidths=[bandwidth], seeds=[0], permutations=0)[0].value
    # The package has no band.
    method, _, band = method.partition(" with ")
    found = diffusion_entropy(x, bandwidths=[bandwidth], seeds=[0], method=method, band=bool(band))
    return found[0].value


def measure(python: str, rounds: int) -> list[dict[str, Any]]:
    """Return one record per case."""
    import torch

    from infoplane.estimators.geometry.diffusion_kernel import median_distance

    torch.set_num_threads(1)
    package, found = Package(python), []
    with TemporaryDirectory() as folder:
        for n, method in (*CASES, (2048, "information")):
            x, labels = rows(n)
            file = Path(folder) / f"{n}.npz"
            np.savez(file, x=x, labels=labels)
            tensor, classes = torch.from_numpy(x)[None], torch.from_numpy(labels)[None]
            s = float(median_distance(tensor))
            ours = partial(our_value, tensor, classes, s, method)
            what = "information" if method == "information" else "entropy"
            theirs = partial(package.ask, what, file, s)
            found.append(compare(method, n, rounds, ours, theirs))
    package.close()
    return found


def table(found: list[dict[str, Any]]) -> str:
    """Return the records as Markdown."""
    lines = [
        "| case | n | ours, s | dse-dsmi, s | ratio (processor) | ratio (wall) | ours - theirs, bits |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['case']} | {one['n']} | {one['ours_processor']:.3f} | {one['theirs_processor']:.3f} "
        f"| {one['ratio_processor']:.1f} | {one['ratio_wall']:.1f} | {one['ours'] - one['theirs']:+.1e} |"
        for one in found
    ]
    return "\n".join(lines)


def interpreter() -> str:
    """Return the interpreter of the environment that holds dse-dsmi."""
    found = sorted((Path(__file__).parents[2] / ".oracles").glob("dse_dsmi-*/bin/python"))
    if not found:
        sys.exit("dse-dsmi is not installed: see this file's first lines, or give --python")
    return str(found[-1])


def main() -> None:
    """Measure and print a table, or serve the other side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="interpreter of an environment with dse-dsmi 1.1")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help="write a dated page")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return
    records = measure(arguments.python or interpreter(), arguments.rounds)
    note = f"d = {D}, medians of {arguments.rounds} alternated rounds."
    print(f"{note}\n\n{table(records)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(records, indent=1) + "\n")
    if arguments.write:
        from against_page import write

        versions = f"python {platform.python_version()}, numpy {np.__version__}, dse-dsmi 1.1"
        body = f"{note}\n\n{table(records)}"
        print(write("dse-dsmi", "Diffusion entropy beside dse-dsmi", versions, body))


if __name__ == "__main__":
    main()
