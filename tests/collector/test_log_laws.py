"""The last pane of every window does not depend on order, duplicates, delay or restarts."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable

import numpy as np
import pytest

from infoplane.collector.assemble.machine import AssembleSettings, assemble_stage
from infoplane.collector.drivers.partition import Partition
from infoplane.collector.drivers.replay import entry_of, replay, run_stage
from infoplane.collector.estimate.machine import estimate_stage
from infoplane.collector.estimate.memory import dump_held
from infoplane.collector.stage import Emission
from infoplane.collector.testing import SyntheticRun, comparable_results, run_with_crashes
from infoplane.wire import from_tensor
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import LogEntry
from infoplane.wire.topics import DEAD, RESULTS, WINDOWS

RUN = SyntheticRun(steps=40, ranks=3)
PATIENT = AssembleSettings(lateness_ms=60_000)


def last_panes(emissions: Iterable[Emission]) -> dict[tuple[str, int, str], pb.WindowPane]:
    panes: dict[tuple[str, int, str], pb.WindowPane] = {}
    for emission in emissions:
        if emission.topic is WINDOWS:
            pane = emission.message
            assert isinstance(pane, pb.WindowPane)
            panes[pane.unit, pane.window, pane.tap.tap] = pane
    return panes


def assert_equal_panes(found: dict, wanted: dict) -> None:
    assert found.keys() == wanted.keys()
    for key, want in wanted.items():
        have = found[key]
        assert (have.present, have.expected, have.rows_total) == (
            want.present,
            want.expected,
            want.rows_total,
        ), key
        assert have.row_keys == want.row_keys
        assert have.tap.rows == want.tap.rows
        assert have.tap.norm_histogram == want.tap.norm_histogram
        assert have.tap.elements == want.tap.elements
        assert have.tokens == want.tokens
        assert have.tap.moments.n == want.tap.moments.n
        if want.tap.HasField("moments"):
            for name in ("total", "outer"):
                np.testing.assert_allclose(
                    from_tensor(getattr(have.tap.moments, name)),
                    from_tensor(getattr(want.tap.moments, name)),
                    rtol=1e-12,
                    atol=1e-12,
                )
        for one, other in zip(have.scalars.values, want.scalars.values, strict=True):
            assert (one.name, one.n) == (other.name, other.n)
            assert one.total == pytest.approx(other.total, rel=1e-12)
        assert have.agent == want.agent


def renumbered(entries: Iterable[LogEntry]) -> list[LogEntry]:
    """Give entries offsets in their new order and timestamps that never run backwards."""
    return [dataclasses.replace(entry, offset=place) for place, entry in enumerate(entries)]


@pytest.fixture(scope="module")
def log() -> list[LogEntry]:
    return RUN.log()


@pytest.fixture(scope="module")
def straight(log: list[LogEntry]) -> dict:
    return last_panes(run_stage(log, assemble_stage(PATIENT)))


def test_every_window_is_complete_and_final_once(log, straight):
    emissions = list(run_stage(log, assemble_stage(PATIENT)))
    panes = [e.message for e in emissions if e.topic is WINDOWS]
    assert {pane.window for pane in panes} == set(range(5))
    assert all(pane.pane.kind == pb.FINAL for pane in panes)
    assert len(panes) == len(straight)
    assert all(pane.present == pane.expected == 3 * 8 for pane in panes)


@pytest.mark.parametrize("seed", range(4))
def test_shuffled_log(log, straight, seed):
    shuffled = list(log)
    random.Random(seed).shuffle(shuffled)
    assert_equal_panes(
        last_panes(run_stage(renumbered(shuffled), assemble_stage(PATIENT))), straight
    )


@pytest.mark.parametrize("seed", range(4))
def test_duplicated_log(log, straight, seed):
    generator = random.Random(seed)
    doubled = [entry for entry in log for _ in range(generator.choice((1, 1, 2, 3)))]
    assert_equal_panes(
        last_panes(run_stage(renumbered(doubled), assemble_stage(PATIENT))), straight
    )


@pytest.mark.parametrize("seed", range(4))
def test_delayed_rank(log, straight, seed):
    """One rank's records arrive 40 s late, beyond the deadline and within the allowed lateness."""
    from infoplane.wire import decode

    def late(entry: LogEntry) -> bool:
        return decode(entry.value, pb.Record).sender.index == seed % 3

    settings = AssembleSettings(deadline_ms=1_000, late_delay_ms=500, lateness_ms=60_000)
    on_time = [entry for entry in log if not late(entry)]
    delayed = [
        dataclasses.replace(entry, timestamp_ms=entry.timestamp_ms + 40_000)
        for entry in log
        if late(entry)
    ]
    emissions = list(run_stage(renumbered(on_time + delayed), assemble_stage(settings)))
    kinds = {e.message.pane.kind for e in emissions if e.topic is WINDOWS}
    assert kinds == {pb.FINAL, pb.LATE}
    assert_equal_panes(last_panes(emissions), straight)


def test_too_late_records_are_counted_and_change_nothing(log):
    settings = AssembleSettings(deadline_ms=1_000, lateness_ms=2_000)
    first = [entry for entry in log if entry.offset % 12 < 8]
    rest = [
        dataclasses.replace(entry, timestamp_ms=entry.timestamp_ms + 600_000)
        for entry in log
        if entry.offset % 12 >= 8
    ]
    partition = Partition(assemble_stage(settings), 0)
    emissions = [e for entry in renumbered(first + rest) for e in partition.feed(entry)]
    assert sum(k.machine.counts.get("too_late", 0) for k in partition.machines.values()) > 0
    assert last_panes(emissions)


@pytest.mark.parametrize("seed", range(6))
def test_killed_and_restarted_anywhere(log, straight, seed):
    """Kill at random moments; restart from the committed offset with the saved state."""
    generator = random.Random(seed)
    settings = AssembleSettings(deadline_ms=500, lateness_ms=1_500, late_delay_ms=200)
    stage = assemble_stage(settings)
    undisturbed = last_panes(run_stage(log, stage))
    emissions = run_with_crashes(log, stage, generator, lives=5, saves=0.1, commits=0.8)
    assert_equal_panes(last_panes(emissions), undisturbed)
    assert_equal_panes(undisturbed, straight)


@pytest.mark.parametrize("cut", [1, 57, 200, 391])
def test_state_survives_bytes(log, straight, cut):
    stage = assemble_stage(PATIENT)
    partition = Partition(stage, 0)
    emissions = [e for entry in log[:cut] for e in partition.feed(entry)]
    for keyed in partition.machines.values():
        keyed.machine = stage.restore(keyed.machine.to_bytes())
    emissions += [e for entry in log[cut:] for e in partition.feed(entry)]
    emissions += partition.finish()
    assert_equal_panes(last_panes(emissions), straight)


def test_silent_rank_lowers_completeness():
    run = SyntheticRun(steps=24, ranks=2)
    from infoplane.wire import decode

    log = [e for e in run.log() if decode(e.value, pb.Record).sender.index == 0]
    panes = last_panes(run_stage(log, assemble_stage(PATIENT)))
    assert {(p.present, p.expected) for p in panes.values()} == {(8, 16)}


def test_newer_attempt_closes_the_older_one():
    older, newer = SyntheticRun(steps=12), SyntheticRun(steps=16, attempt=2_000)
    log = [e for e in older.log() if e.timestamp_ms < older.start_ms + 1_100]
    log += [dataclasses.replace(e, timestamp_ms=e.timestamp_ms + 5_000) for e in newer.log()]
    emissions = list(run_stage(renumbered(log), assemble_stage(PATIENT)))
    panes = [e.message for e in emissions if e.topic is WINDOWS]
    assert {p.window for p in panes if p.attempt == 1_000} == {0, 1}
    assert {p.window for p in panes if p.attempt == 2_000} == {0, 1}
    assert min(p.present for p in panes if p.attempt == 1_000 and p.window == 1) < 16


def test_corrupt_records_are_dead_letters_and_change_nothing(log, straight):
    generator = random.Random(7)
    dirty: list[LogEntry] = []
    bad = 0
    for entry in log:
        dirty.append(entry)
        for _ in range(3):
            if bad < 1_000:
                value = bytearray(entry.value)
                choice = generator.random()
                if choice < 0.5:
                    value[generator.randrange(len(value))] ^= 1 << generator.randrange(8)
                elif choice < 0.75:
                    del value[generator.randrange(len(value)) :]
                else:
                    value = bytearray(generator.randbytes(generator.randrange(200)))
                dirty.append(dataclasses.replace(entry, value=bytes(value)))
                bad += 1
    assert bad == 1_000
    emissions = list(run_stage(renumbered(dirty), assemble_stage(PATIENT)))
    letters = [e.message for e in emissions if e.topic is DEAD]
    assert len(letters) == 1_000
    assert all(letter.reason and letter.topic == "infoplane.records" for letter in letters)
    assert_equal_panes(last_panes(emissions), straight)


def test_results_do_not_depend_on_order_of_units(log):
    """ESTIMATE over the same panes in another order of units: equal last results, bit by bit."""
    panes = [e for e in replay(log, [assemble_stage(PATIENT)]) if e.topic is WINDOWS]

    def results(order: list[Emission]) -> dict:
        entries = [entry_of(e, RUN.names, i) for i, e in enumerate(order)]
        found = {}
        for emission in run_stage(entries, estimate_stage()):
            if emission.topic is RESULTS:
                message = pb.Result()
                message.CopyFrom(emission.message)
                message.ClearField("clock_ms")
                message.ClearField("pane")
                labels = tuple((label.name, label.value) for label in message.labels)
                found[message.window, message.metric, labels] = message
        return found

    wanted = results(panes)
    assert len(wanted) > 100
    found = results(sorted(panes, key=lambda e: (e.message.window, e.message.unit[::-1])))
    assert found.keys() == wanted.keys()
    assert all(repr(found[key]) == repr(wanted[key]) for key in wanted)


def test_partitions_are_read_side_by_side():
    """A log written one partition after the other still joins all units, also where it breaks off without a bye."""
    log = [e for e in SyntheticRun(steps=40).log() if e.timestamp_ms < RUN.start_ms + 3_500]
    units = sorted({e.key for e in log})
    split = [dataclasses.replace(e, partition=units.index(e.key)) for e in log]
    split.sort(key=lambda e: e.partition)
    results = [
        e.message for e in replay(split, [assemble_stage(), estimate_stage()]) if e.topic is RESULTS
    ]
    completeness = [r for r in results if r.metric == "window_completeness_ratio"]
    assert {r.window for r in completeness} == {0, 1, 2, 3, 4}
    assert len(completeness) == 5 * len(units)


def test_what_is_announced_and_what_is_measured_stay_apart(log):
    emissions = replay(log, [assemble_stage(), estimate_stage()])
    rates = {
        (r.metric, r.value)
        for e in emissions
        if e.topic is RESULTS and (r := e.message).metric.startswith("training_")
        if any(label.value == "learning_rate" for label in r.labels)
    }
    assert {(name, round(value, 9)) for name, value in rates} == {
        ("training_announced", 1e-3),
        ("training_scalar", 2e-2),
    }


def test_a_run_that_has_ended_is_forgotten(log):
    """No window of it is held, and nothing of the log is needed, once no late pane may come.

    What estimators remember of it stays: a window may last longer than the retention.
    """
    panes = [e for e in replay(log, [assemble_stage(PATIENT)]) if e.topic is WINDOWS]
    partition = Partition(estimate_stage(), 0)
    for place, emission in enumerate(panes):
        list(partition.feed(entry_of(emission, RUN.names, place)))
    (keyed,) = partition.machines.values()
    assert partition.needed_offset(len(panes)) < len(panes)
    list(partition.idle(keyed.clock_ms + 599_000))
    assert partition.needed_offset(len(panes)) < len(panes)
    list(partition.idle(keyed.clock_ms + 1_000))
    assert partition.needed_offset(len(panes)) == len(panes)
    (attempt,) = keyed.machine.lanes[""].values()
    assert not attempt.windows
    remembered = sum(map(len, dump_held(attempt.memory)))
    assert len(keyed.machine.to_bytes()) < remembered + 2_000


@pytest.mark.parametrize("cut", [1, 20, 47])
def test_estimate_state_survives_bytes(log, cut):
    panes = [e for e in replay(log, [assemble_stage(PATIENT)]) if e.topic is WINDOWS]
    entries = [entry_of(e, RUN.names, place) for place, e in enumerate(panes)]
    stage = estimate_stage()
    wanted = [e.message for e in run_stage(entries, stage) if e.topic is RESULTS]
    partition = Partition(stage, 0)
    found = [e for entry in entries[:cut] for e in partition.feed(entry)]
    for keyed in partition.machines.values():
        keyed.machine = stage.restore(keyed.machine.to_bytes())
    found += [e for entry in entries[cut:] for e in partition.feed(entry)]
    found += list(partition.finish())
    results = [e.message for e in found if e.topic is RESULTS]
    assert comparable_results(results) == comparable_results(wanted)
