"""Starts the ranks of `probe_job.py`, and adds up what they sent."""

from __future__ import annotations

from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from probe_job import RANKS
from rank_processes import run_ranks

from infoplane.wire import decode, from_tensor
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import read_log

_LAWS = {pb.ADD: np.add, pb.MAXIMUM: np.maximum, pb.MINIMUM: np.minimum}
Merged = dict[str, np.ndarray]


def run_scenario(scenario: str, folder: Path) -> Path:
    """Run the scenario on two ranks, and return the folder of what they wrote."""
    if find_spec("deepspeed") is None:
        pytest.skip("needs DeepSpeed")
    job = str(Path(__file__).with_name("probe_job.py"))
    run_ranks(
        lambda rank: [job, scenario, str(rank), str(folder)], RANKS, folder, result="done-{rank}"
    )
    return folder


def records(path: Path) -> list[pb.Record]:
    """Return what one rank sent."""
    return [decode(entry.value, pb.Record) for entry in read_log(path)]


def merged(folder: Path, case: str, unit: str) -> dict[int, dict[str, Merged]]:
    """Return the summaries of a unit by step, tap and name, merged over the ranks."""
    found: dict[int, dict[str, Merged]] = defaultdict(dict)
    for rank in range(RANKS):
        for record in records(folder / f"{case}-{rank}.log"):
            if record.unit.partition("/")[0] != unit or not record.HasField("sketch"):
                continue
            for tap in record.sketch.taps:
                _add(found[record.step].setdefault(tap.tap, {}), tap)
    return found


def _add(held: Merged, tap: pb.TapSketch) -> None:
    for summary in tap.summaries:
        values: Any = from_tensor(summary.values)
        before = held.get(summary.name)
        held[summary.name] = values if before is None else _LAWS[summary.merge](before, values)
