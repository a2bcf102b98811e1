"""Every kind of reward event goes from the agent's encoder through ASSEMBLE and ESTIMATE, unknown kinds as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from infoplane.agent.counters import Counters
from infoplane.agent.identity import Coordinates, Identity
from infoplane.agent.outbox import Parcel
from infoplane.agent.records import Envelope
from infoplane.agent.rewards import COT, PREFERENCES, ROLLOUTS, SCORES, SEARCH, VOTES, RewardLog
from infoplane.agent.rewards.kinds import EventKind
from infoplane.agent.sources import load
from infoplane.agent.transports import Outgoing
from infoplane.collector.assemble.event_machine import event_stage
from infoplane.collector.assemble.event_table import MAX_COLUMNS, EventTable
from infoplane.collector.drivers.replay import replay, run_stage
from infoplane.collector.estimate.machine import estimate_stage
from infoplane.collector.estimate.view import WindowView
from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import LogEntry
from infoplane.wire.topics import WINDOWS

ROWS, STEPS, RANKS = 5, 16, 2
NUMBERS: dict[str, tuple[str, ...]] = {
    "preferences": (
        "reward_chosen", "reward_rejected", "log_prob_chosen", "log_prob_rejected",
        "reference_log_prob_chosen", "reference_log_prob_rejected",
    ),
    "votes": ("vote", "truth"),
    "rollouts": (
        "reward", "entropy", "log_prob", "reference_log_prob", "rollout_log_prob",
        "null_log_prob", "tokens", "advantage", "value",
    ),
    "scores": ("reward",),
    "search": ("depth", "value", "visits", "reward"),
    "cot": ("index", "answer_log_prob", "is_final", "reward"),
    "of-a-later-version": ("surprise",),
}  # fmt: skip
LATER = EventKind("of-a-later-version", ("prompt", "thing"), is_judgement=False)
KINDS = (PREFERENCES, VOTES, ROLLOUTS, SCORES, SEARCH, COT, LATER)


def log_of(kind: EventKind, **settings: Any) -> list[LogEntry]:
    """Return what two ranks publish about rows that all differ."""
    sent: list[Outgoing] = []

    def offer(parcel: Parcel) -> bool:
        sent.extend(parcel.encode())
        return True

    logs = []
    for rank in range(RANKS):
        identity = Identity("run", 1, Coordinates(rank=rank, world=2, dp=rank, dp_size=2))
        envelope = Envelope(identity, load({"transport": "memory", **settings}, {}, {}), 16, ())
        logs.append(RewardLog(envelope, Counters(), offer, lambda: 0))
    for step in range(STEPS):
        for rank, log in enumerate(logs):
            log.observe(kind, "s", step, **columns_of(kind, step * RANKS + rank))
    return [
        LogEntry(message.topic, 0, place, 1_700_000_000_000 + place, message.key, message.value)
        for place, message in enumerate(sent)
    ]


def columns_of(kind: EventKind, place: int) -> Mapping[str, Any]:
    texts = [f"{place}/{row}" for row in range(ROWS)]
    return {
        "contents": {
            name: [f"{name} {t}" for t in texts] for name in (*kind.contents, *kind.extras)
        },
        "numbers": {name: place + np.arange(ROWS) for name in NUMBERS[kind.name]},
        "features": {},
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("mode", ["buckets", "none"])
def test_a_kind_reaches_the_estimators_whole(kind: EventKind, mode: str) -> None:
    log = log_of(kind, **{"tokens.mode": mode, "sampling.width": 8, "sampling.base_level": 0})
    windows = [e.message for e in run_stage(log, event_stage()) if e.topic is WINDOWS]
    views = [WindowView.of_events([pane], [pane.events]) for pane in windows]
    assert [view.window for view in views] == [0, 1]
    for view in views:
        events = view.events
        assert events is not None
        assert (events.kind, events.completeness) == (kind.name, 1.0)
        told = set(events.window)
        contents = {*kind.contents, *kind.extras, *kind.blank} if mode != "none" else set()
        assert told - {"weight"} == contents | set(NUMBERS[kind.name])
        assert {len(column) for column in events.window.values()} == {ROWS * RANKS * STEPS // 2}
    number = NUMBERS[kind.name][0]
    everything = np.concatenate([view.events.window[number] for view in views if view.events])
    expected = np.add.outer(np.arange(RANKS * STEPS), np.arange(ROWS)).ravel()
    assert np.sort(everything).tolist() == np.sort(expected).tolist()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kind_makes_its_metrics_and_those_of_every_stream(kind: EventKind) -> None:
    emissions = list(replay(log_of(kind), [event_stage(), estimate_stage()]))
    results = [e.message for e in emissions if isinstance(e.message, pb.Result)]
    names = {result.metric for result in results}
    assert "window_completeness_ratio" in names
    assert ("rollout_reward_mean" in names) == (kind is ROLLOUTS)
    assert ("reward_graph_nodes" in names) == (kind is PREFERENCES)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kind_with_all_its_columns_fits(kind: EventKind) -> None:
    (first, *_) = log_of(kind)
    batch = decode(first.value, pb.EventBatch)
    table = EventTable.of(batch.table, batch.step, batch.rank)
    assert len(batch.table.columns) + 2 <= MAX_COLUMNS
    assert table.size == ROWS
