"""Speed of soft entropy and information against the package soft-entropy, same arrays and threads.

    uv pip install --no-deps --target /tmp/soft-entropy soft-entropy==0.1.5
    python benchmarks/estimators/against_soft_entropy.py --package /tmp/soft-entropy [--json FILE]

Both run in one process, on one torch, in alternating rounds; a row gives medians of a round's
ratio. "accumulator" is the package's streaming form (update and results, as built once), "one-shot"
its function for one array. Ours is timed without a null, which does the same work, and with the
default 8 shuffles of labels, which the package does not have. Processor time stands beside wall.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from infoplane.estimators.entropy.soft import soft_information

POINTS = 100
Call = Callable[[], object]


def packaged(path: str) -> tuple[Any, Any]:
    """Return the package's accumulator and its one-shot information."""
    sys.path.insert(0, path)
    from soft_entropy.accumulator import SoftEntropyAccumulator
    from soft_entropy.pytorch import soft_mutual_information

    return SoftEntropyAccumulator, soft_mutual_information


def calls(package: tuple[Any, Any], t: int, n: int, d: int, classes: int) -> dict[str, Call]:
    """Return what is compared, on ``t`` taps of ``n`` rows."""
    accumulator, one_shot = package
    generator = torch.Generator().manual_seed(classes)
    centres = torch.randn(classes, d, generator=generator)
    labels = torch.randint(0, classes, (t, n), generator=generator)
    x = centres[labels] + torch.randn(t, n, d, generator=generator)
    built = accumulator(d, n_bins=POINTS, backend="torch")
    seeds = range(t)

    def accumulate() -> list[object]:
        found = []
        for i in range(t):
            built.reset()
            built.update(x[i], labels[i])
            found.append((built.entropy(), built.mutual_information()))
        return found

    return {
        "ours": lambda: soft_information(x, labels, seeds=seeds, permutations=0, max_labels=n),
        "ours, 8 shuffles": lambda: soft_information(x, labels, seeds=seeds, max_labels=n),
        "accumulator": accumulate,
        "one-shot": lambda: [one_shot(x[i], labels[i], n_bins=POINTS) for i in range(t)],
    }


def timed(call: Call) -> tuple[float, float]:
    """Return wall and processor seconds of one call."""
    start, busy = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start, time.process_time() - busy


def measured(named: dict[str, Call], rounds: int) -> dict[str, dict[str, float]]:
    """Return medians over rounds in which every call runs once, in turning order."""
    names = list(named)
    for call in named.values():
        call()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            seconds[name].append(timed(named[name]))
    found: dict[str, dict[str, float]] = {}
    for name in names:
        wall, busy = zip(*seconds[name], strict=True)
        found[name] = {"wall": statistics.median(wall), "processor": statistics.median(busy)}
        for other in ("accumulator", "one-shot"):
            ratios = [b[1] / a[1] for a, b in zip(seconds[name], seconds[other], strict=True)]
            found[name][f"times faster than {other}"] = statistics.median(ratios)
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", required=True, help="folder that holds soft_entropy")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--taps", type=int, default=8)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    package = packaged(arguments.package)
    rows = []
    settings = [(2048, 128, c) for c in (2, 10, 50, 500, 2048)] + [(1024, 64, 64), (8192, 512, 500)]
    for n, d, classes in settings:
        found = measured(
            calls(package, arguments.taps, n, d, classes),
            arguments.rounds if n < 8192 else max(3, arguments.rounds // 5),
        )
        rows.append({"n": n, "d": d, "labels": classes, "taps": arguments.taps, **found})
    print(
        f"python {platform.python_version()}, torch {torch.__version__}, "
        f"{arguments.threads} thread(s), {arguments.taps} taps, {POINTS} points\n"
    )
    names = list(found)
    print("| n, d, labels | " + " | ".join(f"{name}, ms" for name in names), end=" | ")
    print("accumulator / ours | one-shot / ours | accumulator / ours, 8 shuffles |")
    print("|---" * (len(names) + 4) + "|")
    for row in rows:
        cells = [f"{1e3 * row[name]['processor']:.1f}" for name in names]
        ratios = [row["ours"][f"times faster than {other}"] for other in names[-2:]]
        ratios.append(row["ours, 8 shuffles"]["times faster than accumulator"])
        print(f"| {row['n']}, {row['d']}, {row['labels']} |", " | ".join(cells), end=" | ")
        print(" | ".join(f"{ratio:.1f}" for ratio in ratios), "|")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
