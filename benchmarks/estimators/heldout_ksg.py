"""Speed and error of `heldout_ksg` on data of known information.

    python benchmarks/estimators/heldout_ksg.py [--threads 1] [--seeds 5] [--device cpu]

Prints versions, the median time of one window, and one Markdown row per family. The families
are those of tests/estimators/families.py.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from infoplane.estimators import gaussian_mi, heldout_ksg, heldout_ksg_labels, ksg

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "estimators"))
from families import Family, families, spread


def stacked(make: Family, n: int, seeds: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one item per seed."""
    pairs = [make(n, np.random.default_rng([20, s])) for s in range(seeds)]
    x, y = (torch.from_numpy(np.stack([p[i] for p in pairs])).to(device) for i in (0, 1))
    return x, y


def time_window(device: str, repeats: int) -> None:
    """Print the median time of a window of 6 pairs, n = 1024, d = 64."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 1024, 64, generator=generator)
    y = (0.3 * x + torch.randn(6, 1024, 64, generator=generator)).to(device)
    labels = torch.randint(0, 64, (6, 1024), generator=generator).to(device)
    x = x.to(device)
    calls: dict[str, Callable[[], object]] = {
        "heldout_ksg, no null": lambda: heldout_ksg(x, y, seeds=range(6), permutations=0),
        "heldout_ksg, 1 permutation": lambda: heldout_ksg(x, y, seeds=range(6), permutations=1),
        "heldout_ksg, 4 permutations": lambda: heldout_ksg(x, y, seeds=range(6)),
        "heldout_ksg_labels, 4 permutations": lambda: heldout_ksg_labels(x, labels, seeds=range(6)),
        "ksg": lambda: ksg(x, y),
        "gaussian_mi, 4 permutations": lambda: gaussian_mi(x, y, seeds=range(6)),
    }
    for name, call in calls.items():
        call()
        times: list[float] = []
        busy: list[float] = []
        for _ in range(repeats):
            start, start_cpu = time.perf_counter(), time.process_time()
            call()
            times.append(time.perf_counter() - start)
            busy.append(time.process_time() - start_cpu)
        wall, cpu = statistics.median(times), statistics.median(busy)
        print(f"{name:36s} median {wall:.3f} s, best {min(times):.3f} s, processor {cpu:.3f} s")


def table(named: dict[str, tuple[float, Family]], n: int, seeds: int, device: str) -> None:
    """Print truth, mean values and their error."""
    print(f"\n| data (n = {n}, {seeds} seeds) | truth | heldout_ksg | ksg k=5 | gaussian |")
    print("|---|---|---|---|---|")
    errors = []
    for name, (truth, make) in named.items():
        x, y = stacked(make, n, seeds, device)
        values = [e.value for e in heldout_ksg(x, y, seeds=range(seeds), permutations=0)]
        plain = float(ksg(x / x.std(1, keepdim=True), y / y.std(1, keepdim=True), k=5).mean())
        gauss = statistics.fmean(
            e.value for e in gaussian_mi(x, y, seeds=range(seeds), permutations=0)
        )
        mean = statistics.fmean(values)
        errors.append(abs(mean - truth))
        print(f"| {name} | {truth:.3f} | {mean:.3f} | {plain:.3f} | {gauss:.3f} |", flush=True)
    print(f"\nmean absolute error of the seed mean: {statistics.fmean(errors):.4f} nats")


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only-time", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"python {platform.python_version()}, torch {torch.__version__}, "
        f"numpy {np.__version__}, {arguments.threads} thread(s), {arguments.device}"
    )
    time_window(arguments.device, arguments.repeats)
    if arguments.only_time:
        return
    table(families(), 1024, arguments.seeds, arguments.device)
    table(spread(), 1024, arguments.seeds, arguments.device)
    table(spread(), 2048, arguments.seeds, arguments.device)


if __name__ == "__main__":
    main()
