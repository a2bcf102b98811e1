"""Windows of reward events do not depend on order, duplicates, delay or restarts; nor does what ESTIMATE keeps."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterable

import numpy as np
import pytest

from infoplane.collector.assemble.event_machine import event_stage
from infoplane.collector.assemble.event_table import EventTable, read_table
from infoplane.collector.assemble.event_windows import EventSettings
from infoplane.collector.assemble.machine import assemble_stage
from infoplane.collector.drivers.partition import Partition
from infoplane.collector.drivers.replay import entry_of, replay, run_stage
from infoplane.collector.estimate.compute import EstimateSettings
from infoplane.collector.estimate.machine import estimate_stage
from infoplane.collector.metrics import METRICS
from infoplane.collector.stage import Emission
from infoplane.collector.testing import SyntheticRun, comparable_results, run_with_crashes
from infoplane.collector.testing_events import SyntheticEvents
from infoplane.wire import encode, to_tensor
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import LogEntry
from infoplane.wire.topics import DEAD, RESULTS, WINDOWS

EVENTS = SyntheticEvents()
PATIENT = EventSettings(lateness_ms=60_000)


def renumbered(entries: Iterable[LogEntry]) -> list[LogEntry]:
    return [dataclasses.replace(entry, offset=place) for place, entry in enumerate(entries)]


def last_tables(emissions: Iterable[Emission]) -> dict[int, tuple]:
    """Last pane of every window: counts and rows."""
    panes: dict[int, dict[int, pb.WindowPane]] = {}
    for emission in emissions:
        if emission.topic is WINDOWS:
            pane = emission.message
            if pane.part == 0:
                panes[pane.window] = {}
            panes[pane.window][pane.part] = pane
    found = {}
    for window, parts in panes.items():
        head = parts[0]
        assert sorted(parts) == list(range(head.parts))
        rows = [
            parts[place].events.SerializeToString(deterministic=True) for place in sorted(parts)
        ]
        found[window] = (head.present, head.expected, head.first_step, head.last_step, rows)
    return found


@pytest.fixture(scope="module")
def log() -> list[LogEntry]:
    return EVENTS.log()


@pytest.fixture(scope="module")
def straight(log: list[LogEntry]) -> dict:
    return last_tables(run_stage(log, event_stage(PATIENT)))


def test_windows_are_those_of_the_steps(straight):
    assert sorted(straight) == [0, 1, 2, 3, 4]
    assert straight[3][2:4] == (24, 31)
    assert all(present == expected == 3 * 8 * 4 for present, expected, *_ in straight.values())


def test_the_same_event_counts_once(log, straight):
    for *_, rows in straight.values():
        (table,) = [pb.EventTable.FromString(part) for part in rows]
        ids, _ = read_table(table)
        assert np.all(ids[1:] > ids[:-1])
    everything = {
        int(i) for batch in EVENTS.batches() if batch.step < 8 for i in read_table(batch.table)[0]
    }
    ids, _ = read_table(pb.EventTable.FromString(straight[0][4][0]))
    assert set(ids.tolist()) == everything


@pytest.mark.parametrize("seed", range(4))
def test_shuffled_and_duplicated_log(log, straight, seed):
    generator = random.Random(seed)
    doubled = [entry for entry in log for _ in range(generator.choice((1, 1, 2, 3)))]
    generator.shuffle(doubled)
    assert last_tables(run_stage(renumbered(doubled), event_stage(PATIENT))) == straight


@pytest.mark.parametrize("slow", range(3))
def test_a_slow_rank_brings_a_late_pane(log, straight, slow):
    settings = EventSettings(
        deadline_ms=1_000, idle_ms=2_000, lateness_ms=60_000, late_delay_ms=500
    )
    on_time = [entry for entry in log if entry.offset % 3 != slow]
    late = [
        dataclasses.replace(entry, timestamp_ms=entry.timestamp_ms + 20_000)
        for entry in log
        if entry.offset % 3 == slow
    ]
    emissions = list(run_stage(renumbered(on_time + late), event_stage(settings)))
    assert {e.message.pane.kind for e in emissions if e.topic is WINDOWS} == {pb.FINAL, pb.LATE}
    assert last_tables(emissions) == straight


def test_of_two_rows_with_one_id_the_choice_is_fixed():
    def table(value: float, step: int, rank: int) -> EventTable:
        message = pb.EventTable(
            kind="scores",
            ids=to_tensor(np.array([5], np.uint64)),
            columns=[pb.Column(name="reward", values=to_tensor(np.array([value])))],
        )
        return EventTable.of(message, step, rank)

    rows = [(3.0, 7, 0), (1.0, 6, 2), (9.0, 6, 1), (2.0, 6, 1)]
    for seed in range(6):
        random.Random(seed).shuffle(rows)
        united = EventTable("scores")
        for row in rows:
            united.add(table(*row))
        _, columns = united.settle()
        assert columns["reward"].tolist() == [min(9.0, 2.0, key=lambda x: np.float64(x).tobytes())]


def test_beyond_the_cap_the_smallest_ids_stay():
    ids = np.random.default_rng(0).permutation(1000).astype(np.uint64)
    united = EventTable("scores", keep=100)
    for chunk in np.split(ids, 20):
        message = pb.EventTable(kind="scores", ids=to_tensor(chunk))
        united.add(EventTable.of(message, 0, 0))
    assert united.settle()[0].tolist() == list(range(100))


def test_large_windows_go_out_in_parts():
    events = SyntheticEvents(steps=8, each=200, responses=5_000, dim=64)
    panes = [e.message for e in run_stage(events.log(), event_stage()) if e.topic is WINDOWS]
    assert [pane.part for pane in panes] == list(range(panes[0].parts))
    assert panes[0].parts > 3
    assert max(len(encode(pane)) for pane in panes) < 500_000


def test_tables_that_contradict_themselves_are_dead_letters(log, straight):
    def spoiled(change) -> LogEntry:
        batch = next(EVENTS.batches())
        change(batch)
        return dataclasses.replace(log[0], value=encode(batch))

    def shorten(batch: pb.EventBatch) -> None:
        batch.table.columns[0].values.CopyFrom(to_tensor(np.zeros(2)))

    def rename(batch: pb.EventBatch) -> None:
        batch.seq = 77
        batch.table.columns[0].name = "other"

    def no_rule(batch: pb.EventBatch) -> None:
        batch.rule.width = 0

    dirty = [log[0], *map(spoiled, (shorten, rename, no_rule)), *log[1:]]
    emissions = list(run_stage(renumbered(dirty), event_stage(PATIENT)))
    assert [e.message.reason for e in emissions if e.topic is DEAD] == ["content"] * 3
    assert last_tables(emissions) == straight


@pytest.mark.parametrize("has_steps", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_killed_and_restarted_anywhere(has_steps, seed):
    """Also a stream without steps, which is cut in the order of its log, is cut alike after a restart."""
    generator = random.Random(seed)
    log = SyntheticEvents(has_steps=has_steps, steps=60).log()
    stage = event_stage(
        EventSettings(deadline_ms=200, idle_ms=900, lateness_ms=700, late_delay_ms=100, batch=90)
    )
    wanted = last_tables(run_stage(log, stage))
    assert len(wanted) > 5
    emissions = run_with_crashes(log, stage, generator, lives=6, saves=0.2, commits=0.7)
    assert last_tables(emissions) == wanted


@pytest.mark.parametrize("cut", [1, 30, 77, 119])
def test_state_survives_bytes(log, straight, cut):
    stage = event_stage(PATIENT)
    partition = Partition(stage, 0)
    emissions = [e for entry in log[:cut] for e in partition.feed(entry)]
    for keyed in partition.machines.values():
        keyed.machine = stage.restore(keyed.machine.to_bytes())
    emissions += [e for entry in log[cut:] for e in partition.feed(entry)]
    emissions += partition.finish()
    assert last_tables(emissions) == straight


# ---------------------------------------------------------------- ESTIMATE

SMALL = EstimateSettings(METRICS, horizon_events=200, retain_windows=2)


@pytest.fixture(scope="module")
def panes(log) -> list[LogEntry]:
    emissions = [e for e in run_stage(log, event_stage(PATIENT)) if e.topic is WINDOWS]
    return [entry_of(e, EVENTS.names, place) for place, e in enumerate(emissions)]


def results_of(emissions: Iterable[Emission]) -> dict:
    return comparable_results([e.message for e in emissions if e.topic is RESULTS])


@pytest.mark.parametrize("seed", range(8))
def test_what_outlives_a_window_outlives_a_crash(panes, seed):
    """Killed between any two messages, with state written before the commit and sometimes without it."""
    generator = random.Random(seed)
    stage = estimate_stage(SMALL)
    wanted = results_of(run_stage(panes, stage))
    assert len(wanted) == 5 * 9  # windows x metrics of preferences, and completeness
    emissions = run_with_crashes(panes, stage, generator, lives=4, saves=0.6, commits=0.6)
    assert results_of(emissions) == wanted


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_estimate_state_survives_bytes(panes, cut):
    stage = estimate_stage(SMALL)
    wanted = results_of(run_stage(panes, stage))
    partition = Partition(stage, 0)
    found = [e for entry in panes[:cut] for e in partition.feed(entry)]
    for keyed in partition.machines.values():
        keyed.machine = stage.restore(keyed.machine.to_bytes())
    found += [e for entry in panes[cut:] for e in partition.feed(entry)]
    found += partition.finish()
    assert results_of(found) == wanted


@pytest.mark.parametrize("slow", range(3))
def test_a_late_pane_corrects_the_windows_after_it(log, slow):
    """Their gauges look back at it: in the end they are those of a log in which nobody was late."""
    hasty = EventSettings(deadline_ms=300, idle_ms=500, lateness_ms=60_000, late_delay_ms=500)
    patient = estimate_stage(EstimateSettings(METRICS, retain_windows=8))
    late = [
        dataclasses.replace(entry, timestamp_ms=entry.timestamp_ms + 20_000)
        for entry in log
        if entry.offset % 3 == slow and entry.offset < 60
    ]
    rest = [entry for entry in log if entry.offset % 3 != slow or entry.offset >= 60]
    emissions = list(replay(renumbered(rest + late), [event_stage(hasty), patient]))
    kinds = [(e.message.window, e.message.pane.kind) for e in emissions if e.topic is RESULTS]
    assert (0, pb.LATE) in kinds
    assert (4, pb.LATE) in kinds
    assert results_of(emissions) == results_of(replay(log, [event_stage(PATIENT), patient]))


def test_what_is_kept_is_bounded(panes):
    stage = estimate_stage(EstimateSettings(METRICS, horizon_events=60, retain_windows=1))
    partition = Partition(stage, 0)
    for entry in panes:
        list(partition.feed(entry))
    (keyed,) = partition.machines.values()
    kept = [name for name in keyed.machine.memo() if name.startswith("history|")]
    assert len(kept) == 2  # the newest window fills the horizon, one more is spare


def test_events_do_not_hold_up_the_taps():
    """A run with both: the tap windows and the event windows give what each gives alone."""
    taps, events = SyntheticRun(steps=40), EVENTS
    stages = [assemble_stage(), event_stage(), estimate_stage()]
    both = results_of(replay([*taps.log(), *events.log()], stages))
    assert both == results_of(replay(taps.log(), stages)) | results_of(replay(events.log(), stages))


def test_gauges_move_as_they_should():
    """More comparisons: less uncertainty, a larger and better connected graph; and no event counts twice."""
    log = SyntheticEvents(steps=80, responses=40).log()
    results = [
        e.message
        for e in replay(log, [event_stage(PATIENT), estimate_stage()])
        if e.topic is RESULTS
    ]
    series: dict[str, list[float]] = {}
    for result in results:
        assert not result.undefined, result
        series.setdefault(result.metric, []).append(result.value)
    variance = series["reward_posterior_variance_mean"]
    assert all(later < earlier for earlier, later in itertools.pairwise(variance))
    assert series["reward_uncertainty_ratio"][-1] < 0.5 * series["reward_uncertainty_ratio"][0]
    assert series["reward_graph_nodes"][-1] == 40
    assert series["reward_graph_components"][-1] == 1
    assert series["reward_graph_edges"][-1] <= 40 * 39 / 2
    distinct = {
        i
        for b in SyntheticEvents(steps=80, responses=40).batches()
        for i in read_table(b.table)[0].tolist()
    }
    kept = [r for r in results if r.metric == "reward_graph_edges"][-1]
    assert kept.n == len(distinct)
    inconsistency = [r for r in results if r.metric == "preference_cyclic_inconsistency_ratio"]
    assert all(r.value < r.null_mean for r in inconsistency[1:])
