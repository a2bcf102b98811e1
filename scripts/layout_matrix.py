"""Trains every cell of the matrix of parallel layouts on gloo ranks, and writes a dated result page.

A cell is a layout with a number of ranks, a flavour of recomputation and a compiler; each is trained with the agent on
and off. Called by `make matrix`, which takes about an hour; `make matrix ARGS='zero3-2 --recompute none'` for some.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import time
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
SAME = ("losses", "parameters", "rng")


def judge(cell: Cell, flavour: str) -> str:
    """Return `equal`, or what is not as it should be."""
    faults = []
    for rank, result in enumerate(cell.results):
        found = result[flavour]
        different = [what for what in SAME if found["on"][what] != found["off"][what]]
        if different and "control" in found:
            against = [what for what in SAME if found["on"][what] != found["control"][what]]
            faults.append(f"rank {rank}: {_gap(found)} from off, {against or 'equal'} to control")
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
    return "; ".join(faults) or "equal"


def _gap(found: dict[str, Any]) -> str:
    pairs = zip(found["on"]["losses"], found["off"]["losses"], strict=True)
    return f"{max(abs(float.fromhex(a) - float.fromhex(b)) for a, b in pairs):.1e} nats"


def run(name: str, recompute: str, compiler: str) -> str:
    """Return the verdict on one cell."""
    why = reason(name.partition("-")[0], recompute, compiler)
    if why is not None:
        return f"not legal: {why}"
    flavour = f"{recompute}:{compiler}:2"
    with TemporaryDirectory() as folder:
        try:
            return judge(train(name, Path(folder), [flavour], 240), flavour)
        except RanksError as error:
            if WITHOUT in str(error):
                return f"not legal: it fails without the agent: {_reason(str(error))}"
            return f"failed: {_reason(str(error))}"


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
    args = parser.parse_args()
    verdicts: dict[tuple[str, str, str], str] = {}
    start = time.monotonic()
    for name in args.cells:
        for recompute in args.recompute:
            for compiler in args.compiler:
                found = verdicts[name, recompute, compiler] = run(name, recompute, compiler)
                past = time.monotonic() - start
                print(f"{past:6.0f} s  {name:9} {recompute:15} {compiler:10} {found}", flush=True)
    if args.write:
        write_page(verdicts)
    return int(any(not found.startswith(("equal", "not legal")) for found in verdicts.values()))


def write_page(verdicts: dict[tuple[str, str, str], str]) -> None:
    """Write the table of verdicts."""
    today = datetime.datetime.now(tz=datetime.timezone.utc).date()
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "deepspeed", "transformers")
    )
    lines = [
        f"# Matrix of layouts, {today}\n",
        f"`make matrix ARGS=--write`. {versions}, Python {platform.python_version()}, CPU, gloo.",
        "\nequal: losses, parameters and random state are bit-equal with the agent on and off on every rank, every tap "
        "counts every token of micro-batch 0 once a step, and every window is complete.\n",
        "| layout-ranks | recomputation | compiler | verdict |\n|---|---|---|---|",
    ]
    lines += [f"| {' | '.join(cell)} | {found} |" for cell, found in verdicts.items()]
    page = ROOT / "benchmarks" / "layouts" / f"results-{today}.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
