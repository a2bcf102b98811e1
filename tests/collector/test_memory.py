"""What estimators remember of earlier windows does not depend on order, delay, restarts or where a save was cut."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest

from infoplane.collector.assemble.machine import AssembleSettings, assemble_stage
from infoplane.collector.drivers.partition import Partition
from infoplane.collector.drivers.replay import entry_of, replay, run_stage
from infoplane.collector.estimate.compute import EstimateSettings
from infoplane.collector.estimate.machine import estimate_stage
from infoplane.collector.estimate.memory import Memory, SavedMemory, load_parts
from infoplane.collector.metrics import Context, Metric, Source
from infoplane.collector.metrics.needs import TapMoments
from infoplane.collector.stage import Emission, Saved
from infoplane.collector.testing import SyntheticRun, comparable_results, run_with_crashes
from infoplane.estimators import Estimate
from infoplane.wire.log import LogEntry
from infoplane.wire.topics import RESULTS, WINDOWS

RUN = SyntheticRun(steps=80, ranks=2, rows=4)
PATIENT = AssembleSettings(deadline_ms=20_000, lateness_ms=600_000)


def running(inputs: Sequence[Any], context: Context) -> list[dict[str, Estimate]]:
    """Rows seen since the beginning, by tap, and how many windows."""
    found = []
    for moments, memory in zip(inputs, context.memory, strict=True):
        total = memory.get("total", np.zeros(1)) + moments.n * (1 + moments.total[0])
        memory["total"] = total
        memory["windows"] = memory.get("windows", np.zeros(1, np.int64)) + 1
        count = int(memory["windows"][0])
        found.append(
            {
                "total_nats": Estimate(float(total[0]), "nats", count, "running", 1),
                "windows_ratio": Estimate(float(count), "ratio", count, "running", 1),
            }
        )
    return found


SOURCE = Source("running", TapMoments(), running, family="running", remembers=True)
REMEMBERING = tuple(
    Metric(name, unit, "For a test.", ("layer", "tap"), (SOURCE,))
    for name, unit in (("total_nats", "nats"), ("windows_ratio", "ratio"))
)
SETTINGS = EstimateSettings(REMEMBERING, retain_windows=2)


def results_of(emissions: Iterable[Emission]) -> dict:
    return comparable_results([e.message for e in emissions if e.topic is RESULTS])


@pytest.fixture(scope="module")
def log() -> list[LogEntry]:
    return RUN.log()


@pytest.fixture(scope="module")
def panes(log: list[LogEntry]) -> list[LogEntry]:
    emissions = [e for e in run_stage(log, assemble_stage(PATIENT)) if e.topic is WINDOWS]
    return [entry_of(e, RUN.names, place) for place, e in enumerate(emissions)]


@pytest.fixture(scope="module")
def wanted(panes: list[LogEntry]) -> dict:
    return results_of(run_stage(panes, estimate_stage(SETTINGS)))


def test_a_window_sees_what_the_one_before_left(panes):
    emissions = run_stage(panes, estimate_stage(SETTINGS))
    counts = [
        (e.message.window, e.message.value)
        for e in emissions
        if e.topic is RESULTS and e.message.metric == "windows_ratio"
    ]
    assert {window for window, _ in counts} == set(range(10))
    assert all(value == window + 1 for window, value in counts)


@pytest.mark.parametrize("seed", range(12))
def test_it_outlives_a_crash(panes, wanted, seed):
    """Killed between any two messages, with state written before the commit and sometimes without it."""
    stage = estimate_stage(SETTINGS)
    emissions = run_with_crashes(panes, stage, random.Random(seed), lives=5, saves=0.6, commits=0.6)
    assert results_of(emissions) == wanted


@pytest.mark.parametrize("seed", range(40))
def test_it_outlives_a_save_that_is_cut_short(panes, wanted, seed):
    """Of a save, only the first messages reach the log, and nothing is committed after it."""
    generator = random.Random(seed)
    stage = estimate_stage(SETTINGS)
    parts: dict[str, bytes] = {}
    partition, found, committed = Partition(stage, 0), [], 0
    cut = generator.randrange(len(panes) // 3, len(panes))
    for place, entry in enumerate(panes[:cut]):
        found += partition.feed(entry)
        if generator.random() < 0.1 or place == cut - 1:
            written = [e.message for e in partition.save()]
            is_last = place == cut - 1
            kept = written[: generator.randint(0, len(written))] if is_last else written
            for state in kept:
                parts[state.part] = state.payload
                if not state.payload:
                    del parts[state.part]
            if not is_last:
                committed = partition.needed_offset(place + 1)
    again = Partition(stage, 0, {RUN.name: Saved(parts)})
    found += [e for entry in panes[committed:] for e in again.feed(entry)]
    found += again.finish()
    assert results_of(found) == wanted


@pytest.mark.parametrize("cut", [5, 40, 90])
def test_it_survives_bytes(panes, wanted, cut):
    stage = estimate_stage(SETTINGS)
    partition = Partition(stage, 0)
    found = [e for entry in panes[:cut] for e in partition.feed(entry)]
    for keyed in partition.machines.values():
        keyed.machine = stage.restore(keyed.machine.to_bytes())
    found += [e for entry in panes[cut:] for e in partition.feed(entry)]
    found += partition.finish()
    assert results_of(found) == wanted


def test_a_late_pane_corrects_the_windows_after_it(log):
    """Windows that remember a corrected one are those of a log in which nobody was late."""
    hasty = AssembleSettings(deadline_ms=300, lateness_ms=600_000, late_delay_ms=500)
    keeping = estimate_stage(dataclasses.replace(SETTINGS, retain_windows=64))
    slow = [e for e in log if e.offset % 2 == 1 and e.offset < len(log) // 2]
    late = [dataclasses.replace(e, timestamp_ms=e.timestamp_ms + 20_000) for e in slow]
    rest = [e for e in log if e not in slow]
    entries = [dataclasses.replace(e, offset=place) for place, e in enumerate([*rest, *late])]
    straight = results_of(replay(log, [assemble_stage(PATIENT), keeping]))
    emissions = list(replay(entries, [assemble_stage(hasty), keeping]))
    assert results_of(emissions) == straight


def test_arrays_of_an_unchanged_window_are_not_written_again():
    saved, key = SavedMemory(), ("step", (("tap", "00/block"),))
    memory = Memory({}, 3)
    memory.keep(*key, {"sigma": np.array([2.0])})
    left = memory.after
    first = saved.parts({1: left})
    later = Memory(left, 4)
    later.keep(*key, {"sigma": np.array([2.0])})
    assert later.after is left
    assert saved.parts({1: later.after}) == first
    restored = load_parts(first, {1: 4})[1]
    assert restored[key][0] == 3
    assert restored[key][1]["sigma"] == 2.0
    assert load_parts(first, {1: 3})[1] == {}
