"""Speed of soft entropy and information against the package soft-entropy, same arrays and threads.

    python benchmarks/estimators/against_soft_entropy.py [--package FOLDER] [--json FILE] [--write]

Both run in one process, on one torch, in alternating rounds; a row gives medians of a round's
ratio of processor time. "accumulator" is the package's streaming form (update and results, as
built once), "one-shot" its function for one array. Two questions, never mixed:

- bare: value without a null, the same work on both sides;
- with null: value and 8 shuffles of the labels, which is what we report. The package has no null,
  so that whoever wants one calls it for every shuffle. We share the assignments.

"floor" is what both must pay: one matrix product (the faster of torch's libraries) and one softmax
of the same shapes, nothing else. accumulator / floor bounds what any rewrite could reach.

The package is found where `INFOPLANE_REQUIRE=oracles pytest tests/oracles/test_soft_entropy.py`
puts it; or give the folder that holds `soft_entropy`. `--write` leaves a dated page.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from against_page import verdict, write

from infoplane.estimators.entropy.soft import soft_information
from infoplane.estimators.mutual_information.row_products import row_products

POINTS = 100
SHUFFLES = 8
WANTED = 5.0
OTHERS = ("accumulator", "one-shot")
Call = Callable[[], object]


def packaged(path: Path | None) -> tuple[Any, Any]:
    """Return the package's accumulator and its one-shot information."""
    if path is None:
        oracles = Path(__file__).parents[2] / ".oracles"
        found = sorted(oracles.glob("soft_entropy-*/lib/python*/site-packages/soft_entropy"))
        if not found:
            sys.exit("soft-entropy is not installed: see this file's first lines")
        # The package alone: its environment has a torch of its own, which must not be mixed in.
        path = Path(tempfile.mkdtemp())
        (path / "soft_entropy").symlink_to(found[-1])
    sys.path.insert(0, str(path))
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
    order = torch.stack([torch.randperm(n, generator=generator) for _ in range(SHUFFLES)])
    shuffled = [labels, *(labels[:, one] for one in order)]
    directions = torch.randn(POINTS, d, generator=generator)

    def accumulate(labels: torch.Tensor = labels) -> list[object]:
        found = []
        for i in range(t):
            built.reset()
            built.update(x[i], labels[i])
            found.append((built.entropy(), built.mutual_information()))
        return found

    def one_shots(labels: torch.Tensor = labels) -> list[object]:
        return [one_shot(x[i], labels[i], n_bins=POINTS) for i in range(t)]

    return {
        "ours": lambda: soft_information(x, labels, seeds=seeds, permutations=0, max_labels=n),
        "ours, null": lambda: soft_information(
            x, labels, seeds=seeds, permutations=SHUFFLES, max_labels=n
        ),
        "accumulator": accumulate,
        "accumulator, null": lambda: [accumulate(one) for one in shuffled],
        "one-shot": one_shots,
        "floor": lambda: [torch.softmax(row_products(one, directions), -1) for one in x],
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
        for other in (*OTHERS, "accumulator, null"):
            ratios = [b[1] / a[1] for a, b in zip(seconds[name], seconds[other], strict=True)]
            found[name][f"times faster than {other}"] = statistics.median(ratios)
    return found


HEAD = (
    "| n, d, labels | question | ours, ms | accumulator, ms | one-shot, ms | floor, ms "
    "| accumulator / ours | wanted | | one-shot / ours | accumulator / floor |\n"
    "|---|---|---|---|---|---|---|---|---|---|---|"
)


def lines(row: dict[str, Any]) -> list[str]:
    """Return the two lines of one setting: bare, and with a null."""
    milliseconds = {
        name: f"{1e3 * held['processor']:.1f}" for name, held in row.items() if type(held) is dict
    }
    setting, found = f"{row['n']}, {row['d']}, {row['labels']}", []
    for question, ending in (("bare", ""), (f"with null, {SHUFFLES} shuffles", ", null")):
        name = f"accumulator{ending}"
        ratio = row[f"ours{ending}"][f"times faster than {name}"]
        cells = [setting, question, milliseconds[f"ours{ending}"], milliseconds[name]]
        one_shot, bound = "", ""
        if not ending:
            one_shot = f"{row['ours']['times faster than one-shot']:.1f}"
            bound = f"{row['floor']['times faster than accumulator']:.1f}"
        cells += ["" if ending else milliseconds["one-shot"], milliseconds["floor"]]
        cells += [f"{ratio:.1f}", *verdict(ratio, WANTED), one_shot, bound]
        found.append("| " + " | ".join(cells) + " |")
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--package", type=Path, help="folder that holds soft_entropy")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--taps", type=int, default=8)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", action="store_true", help="write a dated page")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    package = packaged(arguments.package)
    versions = (
        f"python {platform.python_version()}, torch {torch.__version__}, soft-entropy 0.1.5, "
        f"{arguments.taps} taps, {POINTS} points"
    )
    print(f"{versions}, one thread\n\n{HEAD}", flush=True)
    rows, table = [], []
    settings = [(2048, 128, c) for c in (2, 10, 50, 500, 2048)] + [(1024, 64, 64), (8192, 512, 500)]
    for n, d, classes in settings:
        # The package takes a second where labels are many, and a median of few rounds is enough.
        few = n > 2048 or classes > 100
        rounds = max(3, arguments.rounds // 3) if few else arguments.rounds
        found = measured(calls(package, arguments.taps, n, d, classes), rounds)
        rows.append({"n": n, "d": d, "labels": classes, "taps": arguments.taps, **found})
        table += lines(rows[-1])
        print(*table[-2:], sep="\n", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))
    if arguments.write:
        body = "\n".join([NOTE, "", HEAD, *table])
        print(write("soft-entropy", "Soft entropy beside the package soft-entropy", versions, body))


NOTE = f"""Milliseconds of processor time for all taps, medians; ratios are medians of a round's.

- bare: one value, no null, the same work on both sides.
- with null: value and {SHUFFLES} shuffles of the labels; the package once per shuffle, ours in one call.
- floor: one matrix product and one softmax of the same shapes. Both sides must pay them, so that
  accumulator / floor is the most that anything which computes the same can reach; where it is below
  the wanted ratio, that is out of reach."""


if __name__ == "__main__":
    main()
