from __future__ import annotations

import random

import pytest

from infoplane.exporter import Store
from infoplane.exporter.points import SeriesId, series_of
from infoplane.exporter.testing import MadeUpRun
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.errors import DecodeError

METRIC = "policy_entropy_nats"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(clock: Clock | None = None, *, cap: int = 10_000, windows: int = 400) -> Store:
    return Store(ttl_s=600, series_cap=cap, history_windows=windows, clock=clock or Clock())


def result(
    window: int,
    value: float = 0.0,
    *,
    attempt: int = 1,
    kind: int = pb.FINAL,
    index: int = 0,
    **more: str,
) -> pb.Result:
    return pb.Result(
        run=more.pop("run", "r"),
        attempt=attempt,
        window=window,
        pane=pb.Pane(kind=kind, index=index),  # type: ignore[arg-type]
        first_step=window * 128,
        last_step=window * 128 + 127,
        clock_ms=window * 1000,
        metric=more.pop("metric", METRIC),
        labels=[pb.Label(name=k, value=v) for k, v in sorted(more.items())],
        value=value,
        n=10,
        completeness=1.0,
    )


def newest(store: Store) -> float:
    snapshot = store.snapshot("r")
    assert snapshot is not None
    return dict(snapshot.series)[SeriesId(METRIC, ())].value


def history(store: Store) -> dict[int, float]:
    return {p.window: p.value for p in store.history("r", METRIC).get(SeriesId(METRIC, ()), [])}


ORDERED = [
    result(1, 1.0),
    result(1, 2.0, kind=pb.LATE, index=1),
    result(1, 3.0, kind=pb.LATE, index=2),
    result(2, 4.0),
    result(3, 5.0),
    result(2, 6.0, attempt=2),
    result(3, 7.0, attempt=2),
]


@pytest.mark.parametrize("seed", range(30))
def test_any_order_and_duplicates_give_the_same_store(seed: int) -> None:
    store = make()
    shuffled = ORDERED * 2
    random.Random(seed).shuffle(shuffled)
    for one in shuffled:
        store.add(one)
    assert newest(store) == 7.0
    assert history(store) == {1: 3.0, 2: 6.0, 3: 7.0}


def test_equal_order_replaces() -> None:
    store = make()
    store.add(result(1, 1.0))
    store.add(result(1, 9.0))
    assert newest(store) == 9.0
    assert history(store) == {1: 9.0}


def test_a_late_pane_of_an_old_window_corrects_the_past_only() -> None:
    store = make()
    store.add(result(1, 1.0))
    store.add(result(2, 2.0))
    store.add(result(1, 8.0, kind=pb.LATE, index=1))
    assert newest(store) == 2.0
    assert history(store) == {1: 8.0, 2: 2.0}


def test_a_newer_attempt_drops_the_branch_that_was_left() -> None:
    store = make(windows=10)
    for window in range(100, 140):
        store.add(result(window, 1.0))
    for window in range(60, 70):
        store.add(result(window, 2.0, attempt=2))
    assert history(store) == dict.fromkeys(range(60, 70), 2.0)
    assert store.add(result(139, 1.0)) is True
    assert newest(store) == 2.0
    assert history(store) == dict.fromkeys(range(60, 70), 2.0)


def test_history_keeps_the_newest_windows() -> None:
    store = make(windows=10)
    for window in [*range(30), 3]:
        store.add(result(window, float(window)))
    assert sorted(history(store)) == list(range(20, 30))


def test_a_silent_run_is_no_longer_live_but_stays_visible() -> None:
    clock = Clock()
    store = make(clock)
    store.add(result(1))
    clock.now += 599
    assert [one.live for one in store.snapshots()] == [True]
    clock.now += 1
    assert [one.live for one in store.snapshots()] == [False]
    store.add(result(2))
    assert [one.live for one in store.snapshots()] == [True]


def test_reading_an_old_message_does_not_revive_its_run() -> None:
    clock = Clock()
    store = make(clock)
    store.add(result(1), arrived_s=clock.now - 700)
    assert [one.live for one in store.snapshots()] == [False]
    store.add(result(2), arrived_s=clock.now + 1e9)
    assert store.snapshots()[0].heard_s == clock.now


def test_series_beyond_the_cap_are_refused_and_counted_while_held_ones_move_on() -> None:
    store = make(cap=3)
    kept = [
        store.add(result(w, metric="training_scalar", stream=f"s{i}"))
        for w in (1, 2)
        for i in range(5)
    ]
    assert kept == [True, True, True, False, False] * 2
    snapshot = store.snapshot("r")
    assert snapshot is not None
    assert snapshot.rejected == {"cap": 4}
    assert {point.window for _, point in snapshot.series} == {2}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"metric": "made_up"}, "metric"),
        ({"rank": "3"}, "labels"),
        ({"metric": "training_scalar", "stream": "x" * 200}, "labels"),
    ],
)
def test_what_is_not_in_the_registry_is_refused(fields: dict[str, str], reason: str) -> None:
    store = make()
    assert store.add(result(1, **fields)) is False  # type: ignore[arg-type]
    snapshot = store.snapshot("r")
    assert snapshot is not None
    assert snapshot.rejected == {reason: 1}
    assert snapshot.series == []


def test_a_run_with_an_impossible_name_is_an_error() -> None:
    with pytest.raises(DecodeError):
        make().add(result(1, run="a b"))


def test_series_that_stopped_long_ago_and_those_of_older_attempts_speak_no_more() -> None:
    store = make()
    store.add(result(1, metric="training_scalar", stream="gone"))
    store.add(result(100))
    assert [one.metric for one, _ in store.snapshots()[0].series] == [METRIC]
    store.add(result(101, metric="training_scalar", attempt=2, stream="loss"))
    assert [one.metric for one, _ in store.snapshots()[0].series] == ["training_scalar"]


def test_a_verdict_is_counted_once() -> None:
    store = make()
    verdict = MadeUpRun("r", 4, breaks_at=3).verdict(5, 1.0)
    for _ in range(3):
        store.add_verdict(verdict)
    assert store.snapshots()[0].verdict_counts == {
        ("change", "critical", "von_neumann_entropy_nats"): 1
    }
    assert [one.id for one in store.verdicts("r")] == [verdict.id]


def test_the_made_up_run_is_true_to_the_schema() -> None:
    store = make()
    run = MadeUpRun("r", 6)
    for window in range(2):
        for one in run.results(window, float(window)):
            assert store.add(one), series_of(one)
    assert store.snapshots()[0].rejected == {}
