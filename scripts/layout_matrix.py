"""Trains every cell of the matrix of parallel layouts on gloo ranks, and writes a dated result page.

A cell is a layout with a number of ranks, a flavour of recomputation and a compiler; each is trained with the agent on
and off. Called by `make matrix`, which takes over an hour; `make matrix ARGS='zero3-2 --recompute none'` for some. The
page is written cell by cell, and `--resume` goes on with the page of the day: cells that have a verdict are left out.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "integration"))

from layout_cells import COMPILE, RECOMPUTE, WORLDS, reason  # noqa: E402
from layout_job import WITHOUT  # noqa: E402
from layout_models import BATCH, LAYERS, LENGTH  # noqa: E402
from layout_ranks import Cell, train  # noqa: E402
from rank_processes import RanksError  # noqa: E402

STEPS = 3
CELL_S = 240  # patience with one cell
SAME = ("losses", "parameters", "rng")
REPORTED = "reported"  # what inductor fuses may differ in the last bits where a tap materialises it
FINE = ("equal", "not legal", REPORTED)


def judge(cell: Cell, flavour: str) -> str:
    """Return `equal`, or what is not as it should be; of inductor, how far it is from off and from the control."""
    faults, notes = [], []
    for rank, result in enumerate(cell.results):
        found = result[flavour]
        different = [what for what in SAME if found["on"][what] != found["off"][what]]
        if different and "control" in found:
            against = [what for what in SAME if found["on"][what] != found["control"][what]]
            differs = (
                f"{', '.join(against)} differ from the control's" if against else "as the control"
            )
            notes.append(f"rank {rank}: {_gap(found)} from off, {differs}")
        elif different:
            faults.append(f"rank {rank}: {', '.join(different)} differ")
    sent = cell.sent(flavour)
    rows = BATCH * LENGTH / int(flavour.rpartition(":")[2])
    for step in range(STEPS):
        taps = sent.taps(step)
        names = [f"0{layer}/block" for layer in range(LAYERS)]
        if any(name not in taps or taps[name].message.moments.n != rows for name in names):
            faults.append(f"step {step}: taps missing or counted wrongly")
    incomplete = [unit for unit, (want, have) in sent.completeness().items() if want != have]
    if incomplete:
        faults.append(f"incomplete: {', '.join(incomplete)}")
    if notes and not faults:
        return f"{REPORTED}: {'; '.join(notes)}"
    return "; ".join(faults + notes) or "equal"


def _gap(found: dict[str, Any]) -> str:
    pairs = zip(found["on"]["losses"], found["off"]["losses"], strict=True)
    return f"{max(abs(float.fromhex(a) - float.fromhex(b)) for a, b in pairs):.1e} nats"


def run(name: str, cells: list[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield the verdict on every (recomputation, compiler) of one layout.

    Processes train one cell after the other, as most of a cell's time is the start of its ranks. They end with the
    first cell that fails; others go on after it.
    """
    left = {}
    for cell in cells:
        why = reason(name.partition("-")[0], *cell)
        if why is not None:
            yield cell, f"not legal: {why}"
        else:
            left[f"{cell[0]}:{cell[1]}:2"] = cell
    while left:
        flavours = list(left)
        with TemporaryDirectory() as folder:
            failure = ""
            try:
                done: Cell | None = train(name, Path(folder), flavours, CELL_S * len(flavours))
            except RanksError as error:
                failure = str(error)
                done = Cell.unfinished(name, Path(folder), flavours)
            for flavour in done.flavours if done else ():
                assert done is not None
                yield left.pop(flavour), judge(done, flavour)
        if failure:
            yield left.pop(next(iter(left))), _verdict(failure)


def _verdict(failure: str) -> str:
    if WITHOUT in failure:
        return f"not legal: it fails without the agent: {_reason(failure)}"
    return f"failed: {_reason(failure)}"


def _reason(log: str) -> str:
    """Return the last line of a log that names an error."""
    lines = [line for line in log.splitlines() if "Error" in line] or log.splitlines()
    return lines[-1].rpartition("]: ")[2][:160] if lines else "it did not end in time"


def main() -> int:
    """Return 0 if no cell failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [f"{layout}-{world}" for layout, worlds in WORLDS.items() for world in worlds]
    parser.add_argument("cells", nargs="*", default=names, metavar="LAYOUT-RANKS")
    parser.add_argument("--recompute", nargs="*", default=RECOMPUTE, choices=RECOMPUTE)
    parser.add_argument("--compiler", nargs="*", default=COMPILE, choices=COMPILE)
    parser.add_argument(
        "--write", action="store_true", help="write benchmarks/layouts/results-DATE.md"
    )
    parser.add_argument(
        "--resume", action="store_true", help="write, and keep the verdicts of today's page"
    )
    args = parser.parse_args()
    page = page_of_today()  # once: a long run may go past midnight
    verdicts = read_page(page) if args.resume else {}
    start = time.monotonic()
    for name in args.cells:
        for compiler in args.compiler:
            cells = [(recompute, compiler) for recompute in args.recompute]
            cells = [cell for cell in cells if (name, *cell) not in verdicts]
            for cell, found in run(name, cells):
                verdicts[name, cell[0], cell[1]] = found
                past = time.monotonic() - start
                print(f"{past:6.0f} s  {name:9} {cell[0]:15} {compiler:10} {found}", flush=True)
                if args.write or args.resume:
                    write_page(verdicts, page)
    return int(any(not found.startswith(FINE) for found in verdicts.values()))


def page_of_today() -> Path:
    """Return the path of the result page."""
    today = datetime.datetime.now(tz=datetime.timezone.utc).date()
    return ROOT / "benchmarks" / "layouts" / f"results-{today}.md"


def read_page(page: Path) -> dict[tuple[str, str, str], str]:
    """Return the verdicts of a page that was begun, none if there is no such page."""
    lines = page.read_text().splitlines() if page.exists() else []
    rows = [line.strip("| ").split(" | ", 3) for line in lines if line.startswith("| ")]
    return {(row[0], row[1], row[2]): row[3] for row in rows if row[0].rpartition("-")[0] in WORLDS}


def write_page(verdicts: dict[tuple[str, str, str], str], page: Path) -> None:
    """Write the table of verdicts in the order of the whole matrix."""
    every = [
        (f"{layout}-{world}", recompute, compiler)
        for layout, worlds in WORLDS.items()
        for world in worlds
        for compiler in COMPILE
        for recompute in RECOMPUTE
    ]
    done = [cell for cell in every if cell in verdicts]
    part = "" if len(done) == len(every) else f", in part: {len(done)} of {len(every)} cells"
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "deepspeed", "transformers")
    )
    lines = [
        f"# Matrix of layouts, {page.stem.partition('-')[2]}{part}\n",
        f"`make matrix ARGS=--write`. {versions}, Python {platform.python_version()}, CPU, gloo.",
        "\nequal: losses, parameters and random state are bit-equal with the agent on and off on every rank, every tap "
        "counts every token of micro-batch 0 once a step, and every window is complete. reported: the same counts and "
        "windows; compiled by inductor, losses or parameters differ from those of a run without the agent, by so much, "
        "and from those of a control that only materialises the same tensors.\n",
        "| layout-ranks | recomputation | compiler | verdict |\n|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(cell)} | {verdicts[cell]} |" for cell in done]
    page.parent.mkdir(exist_ok=True)
    page.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
