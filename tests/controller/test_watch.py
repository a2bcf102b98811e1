"""WATCH: what it must see, what it must not, and that a restart changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from infoplane.collector.drivers.memos import collect_saved
from infoplane.collector.drivers.partition import Partition
from infoplane.collector.drivers.replay import entry_of, run_stage
from infoplane.collector.stage import Emission
from infoplane.controller.watch import WatchSettings, watch_stage
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.topics import RESULTS, VERDICTS, Names, run_key

METRIC = "von_neumann_entropy_nats"
TAPS = tuple(f"{layer:02d}/block" for layer in range(6))
SPAN = 8


def result(window: int, metric: str, value: float, **labels: str) -> pb.Result:
    return pb.Result(
        run="r",
        attempt=1,
        window=window,
        pane=pb.Pane(kind=pb.FINAL),
        first_step=window * SPAN,
        last_step=window * SPAN + SPAN - 1,
        clock_ms=1_000 * window + 1,
        metric=metric,
        labels=[pb.Label(name=k, value=v) for k, v in sorted(labels.items())],
        value=value,
        unit="nats",
        n=1000,
        completeness=1.0,
        undefined="" if math.isfinite(value) else "nan",
    )


def run_of(
    windows: int,
    level: Callable[[int, int], float],
    *,
    seed: int = 0,
    noise: float = 0.01,
    plan: Callable[[int], float] = lambda window: 1e-3,
) -> list[Emission]:
    """Results of a run: `level(window, layer)` plus noise, one value a tap."""
    generator = np.random.default_rng(seed)
    results = []
    for window in range(windows):
        results.append(result(window, "training_announced", plan(window), stream="learning_rate"))
        for layer, tap in enumerate(TAPS):
            value = level(window, layer) + noise * generator.normal()
            results.append(result(window, METRIC, value, tap=tap, layer=tap[:2]))
        results.append(result(window, "policy_entropy_nats", 2.0))
    return [Emission(RESULTS, run_key("r"), one) for one in results]


def verdicts(emissions: list[Emission], settings: WatchSettings | None = None) -> list[pb.Verdict]:
    entries = [entry_of(e, Names(), place) for place, e in enumerate(emissions)]
    found = run_stage(entries, watch_stage(settings))
    return [e.message for e in found if e.topic is VERDICTS]


def fault_at(start: int, layers: range, per_window: float) -> Callable[[int, int], float]:
    def level(window: int, layer: int) -> float:
        hit = layer in layers and window >= start
        return 3.0 + (per_window * (window - start + 1) if hit else 0.0)

    return level


@pytest.mark.parametrize("seed", range(20))
def test_a_quiet_run_has_no_verdict(seed):
    assert verdicts(run_of(60, lambda window, layer: 3.0, seed=seed)) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_falling_trend_is_no_fault(seed):
    assert verdicts(run_of(60, lambda w, layer: 4.0 - 0.01 * w + 0.1 * layer, seed=seed)) == []


@pytest.mark.parametrize("seed", range(5))
def test_all_blocks_falling(seed):
    (verdict,) = verdicts(run_of(44, fault_at(30, range(6), -0.2), seed=seed))
    assert verdict.pattern == "all"
    assert verdict.since_step == 30 * SPAN
    assert verdict.detected_step <= (30 + 3) * SPAN - 1
    assert [e.labels[1].value for e in verdict.evidence] == list(TAPS)
    assert all(e.score < -5 for e in verdict.evidence)
    assert "falls in blocks 00, 01, 02, 03, 04, 05 since step 240" in verdict.sentence


def test_last_blocks_falling():
    (verdict,) = verdicts(run_of(44, fault_at(30, range(4, 6), -0.2)))
    assert verdict.pattern == "late"
    assert {e.labels[0].value for e in verdict.evidence} == {"04", "05"}


def test_one_block_alone_is_not_believed():
    assert verdicts(run_of(44, fault_at(30, range(2, 3), -0.5))) == []


def test_one_window_alone_is_not_believed():
    def level(window: int, layer: int) -> float:
        return 3.0 if window < 30 else 2.5

    assert verdicts(run_of(44, level)) == []


def test_a_planned_change_of_the_learning_rate_is_no_fault():
    """Drift in proportion to the plan: the drop of the plan explains the drop of the drift."""
    rates = np.where(np.arange(60) < 35, 1e-3, 1e-4)
    levels = 4.0 - np.cumsum(rates) * 60

    def level(window: int, layer: int) -> float:
        return float(levels[window])

    planned = run_of(60, level, plan=lambda w: float(rates[w]), noise=0.0005)
    assert verdicts(planned) == []


def test_not_a_number_speaks_at_once_and_once():
    def level(window: int, layer: int) -> float:
        return math.nan if window >= 5 else 3.0

    (verdict,) = verdicts(run_of(8, level))
    assert (verdict.detector, verdict.severity, verdict.since_step) == ("limit", "critical", 40)
    assert "not a finite number" in verdict.sentence


def test_hard_limit_on_policy_entropy():
    emissions = run_of(10, lambda window, layer: 3.0)
    collapsed = Emission(RESULTS, run_key("r"), result(10, "policy_entropy_nats", 0.001))
    (verdict,) = verdicts([*emissions, collapsed])
    assert verdict.metric == "policy_entropy_nats"
    assert "below 0.01" in verdict.sentence


def test_saturated_results_do_not_vote():
    emissions = run_of(44, fault_at(30, range(6), -0.2))
    for emission in emissions:
        emission.message.saturated = emission.message.metric == METRIC
    assert verdicts(emissions) == []


def test_late_panes_issue_no_verdict_again():
    emissions = run_of(44, fault_at(30, range(6), -0.2))
    late = []
    for emission in emissions:
        again = pb.Result()
        again.CopyFrom(emission.message)
        again.pane.kind, again.pane.index = pb.LATE, 1
        late.append(Emission(RESULTS, emission.key, again))
    assert len(verdicts(emissions + late)) == 1


def test_a_new_attempt_begins_afresh():
    emissions = run_of(44, fault_at(30, range(6), -0.2))
    second = run_of(20, lambda window, layer: 3.0)
    for emission in second:
        emission.message.attempt = 2
    assert [v.attempt for v in verdicts(emissions + second)] == [1]


@pytest.mark.parametrize("stop", [3, 100, 241, 242, 250, 260])
@pytest.mark.parametrize(("unsaved", "uncommitted"), [(0, 0), (1, 0), (0, 60), (17, 40)])
def test_a_restart_changes_no_verdict(stop, unsaved, uncommitted):
    """Killed at `stop`, with the state saved some messages before, and the offset committed before that."""
    emissions = run_of(44, fault_at(30, range(6), -0.2))
    entries = [entry_of(e, Names(), place) for place, e in enumerate(emissions)]
    wanted = verdicts(emissions)
    first = Partition(watch_stage(), 0)
    found = []
    save_at = max(0, stop - unsaved)
    states: list[pb.StageState] = []
    for entry in entries[:stop]:
        if entry.offset == save_at:
            states = [e.message for e in first.save()]
        found += first.feed(entry)
    if save_at == stop:
        states = [e.message for e in first.save()]
    second = Partition(watch_stage(), 0, collect_saved(states))
    for entry in entries[max(0, save_at - uncommitted) :]:
        found += second.feed(entry)
    issued = [e.message for e in found if e.topic is VERDICTS]
    assert list({verdict.id: verdict for verdict in issued}.values()) == wanted
    assert all(verdict in wanted for verdict in issued)
    if not unsaved:
        assert issued == wanted


@pytest.mark.parametrize(
    ("moves", "says"), [(True, "look at the data"), (False, "look at the optimizer")]
)
def test_the_embedding_tells_data_from_model(moves, says):
    emissions = []
    generator = np.random.default_rng(5)
    for emission in run_of(44, fault_at(30, range(6), -0.2)):
        emissions.append(emission)
        message = emission.message
        if message.metric == METRIC and message.labels[1].value == TAPS[0]:
            jump = 1.5 if moves and message.window >= 30 else 0.0
            value = 3.5 + jump + 0.01 * generator.normal()
            embedded = result(message.window, METRIC, value, tap="embed", layer="embed")
            emissions.append(Emission(RESULTS, run_key("r"), embedded))
    (verdict,) = verdicts(emissions)
    assert says in verdict.sentence
    assert all(e.labels[1].value != "embed" for e in verdict.evidence)


def test_a_state_that_cannot_be_read_is_left_aside():
    emissions = run_of(44, fault_at(30, range(6), -0.2))
    entries = [entry_of(e, Names(), place) for place, e in enumerate(emissions)]
    torn = pb.StageState(stage="watch", key="r", part="state", payload=b"torn", offset=1_000)
    partition = Partition(watch_stage(), 0, collect_saved([torn]))
    found = [e for entry in entries for e in partition.feed(entry)]
    assert [e.message for e in found if e.topic is VERDICTS] == verdicts(emissions)
