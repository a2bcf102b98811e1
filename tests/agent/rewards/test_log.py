"""The reward log: refusals, streams, steps, and values that are still on a device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch

from infoplane.agent.rewards.log import MAX_STREAMS

Make = Callable[..., Any]


class Late:
    """An arrival that the test decides on."""

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        self.tensors = list(tensors)
        self.there = False

    def is_done(self) -> bool:
        return self.there


class Device:
    """Calls with a tensor arrive when the test says so; others at once."""

    def __init__(self) -> None:
        self.arrivals: list[Late] = []

    def __call__(self, tensors: Iterable[torch.Tensor]) -> Late | None:
        late = Late(tensors)
        if not late.tensors:
            return None
        self.arrivals.append(late)
        return late


WRONG: dict[str, dict[str, Any]] = {
    "lengths": {"prompts": ["a"], "responses": ["b", "c"]},
    "text": {"prompts": "ab", "responses": "cd"},
    "element": {"prompts": [1.5, 2.5], "responses": ["c", "d"]},
    "hidden element": {"prompts": [[1, "x"], [2]], "responses": ["c", "d"]},
    "number": {"reward": [1.0]},
    "shape": {"reward": torch.ones(2, 1)},
    "features": {"features": torch.ones(2)},
    "stream": {"stream": "a|b"},
    "long stream": {"stream": "a" * 65},
    "no stream": {"stream": ""},
    "stream type": {"stream": 5},
    "step": {"step": -1},
    "step type": {"step": torch.tensor(4)},
    "large step": {"step": 2**63},
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_call_is_counted_logged_once_and_never_raised(
    make_bench: Make, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    bench, wrong = make_bench(), dict(WRONG[case])
    contents = (wrong.pop("prompts", ["a", "b"]), wrong.pop("responses", ["c", "d"]))
    with caplog.at_level(logging.WARNING, "infoplane.agent"):
        bench.roll(*contents, **wrong)
        bench.roll(*contents, **wrong)
    assert bench.messages == []
    assert bench.dropped() == {"invalid": 2 * len(contents[0])}
    (line,) = caplog.messages
    assert "expected" in line
    assert "found" in line
    bench.roll(["a"], ["b"], stream="good")
    assert len(bench.messages) == 1


def test_an_unforeseen_error_is_counted_and_its_text_kept_out_of_the_log(
    make_bench: Make, caplog: pytest.LogCaptureFixture
) -> None:
    class Evil(list[Any]):
        def __iter__(self) -> Any:
            raise RuntimeError("secret prompt")

    bench = make_bench()
    with caplog.at_level(logging.WARNING, "infoplane.agent"):
        bench.roll(Evil([1, 2]), ["c", "d"])
    assert bench.dropped() == {"error": 2}
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_a_call_without_rewards_is_no_score(make_bench: Make) -> None:
    from infoplane.agent.rewards import SCORES

    bench = make_bench()
    bench.observe(SCORES, {"prompt": ["a"], "response": ["b"]}, reward=None)
    assert bench.dropped() == {"invalid": 1}
    bench.observe(SCORES, {"prompt": ["a"], "response": ["b"]}, reward=[2.0])
    assert bench.tables[0].kind == "scores"


def test_the_calls_of_a_stream_have_the_same_columns(
    make_bench: Make, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench()
    bench.roll(["a"], ["b", "c"])  # a wrong first call fixes nothing
    with caplog.at_level(logging.WARNING, "infoplane.agent"):
        for stream in ("s", "t"):
            bench.roll(["a"], ["b"], reward=[1.0], features=torch.ones(1, 3), stream=stream)
            bench.roll(["a"], ["b"], features=torch.ones(1, 3), reward=[1.0], stream=stream)
    assert len(bench.messages) == 4
    bench.roll(["a"], ["b"], reward=[1.0], features=torch.ones(1, 4))
    bench.roll(["a"], ["b"], reward=[1.0])
    bench.roll(["a"], ["b"], reward=[1.0], tokens=[1], features=torch.ones(1, 3), stream="t")
    bench.prefer(["a"], ["b"], ["c"])
    assert len(bench.messages) == 4
    assert bench.dropped() == {"invalid": 1 + 4}
    bench.prefer(["a"], ["b"], ["c"], stream="p")
    bench.prefer(["a"], ["b"], ["c"], stream="p", weight=[2.0], rater=["x"])
    assert len(bench.messages) == 6
    # Wide features are as wide as the projection, whatever they come from.
    for width in (64, 100, 200):
        bench.roll(["a"], ["b"], features=torch.ones(1, width), stream="wide")
    assert len(bench.messages) == 9


def test_streams_are_bounded(make_bench: Make) -> None:
    bench = make_bench()
    for i in range(MAX_STREAMS + 5):
        bench.roll(["a"], ["b"], stream=f"s{i}")
    assert len({message.key for message in bench.messages}) == MAX_STREAMS
    assert bench.dropped() == {"invalid": 5}


def test_the_head_of_a_message(make_bench: Make) -> None:
    bench = make_bench(rank=3, attempt=8, **{"sampling.base_level": 3, "sampling.width": 16})
    bench.roll(["a"], ["b"])
    bench.roll(["a"], ["b"], stream="t", step=np.int64(12))
    first, second = (table.batch for table in bench.tables)
    assert (first.run, first.attempt, first.rank, first.stream) == ("run", 8, 3, "s")
    assert (first.step, second.step) == (7, 12)
    assert (first.seq, second.seq, first.offered) == (0, 0, 1)
    assert (first.rule.base_level, first.rule.width) == (3, 16)
    assert [m.key for m in bench.messages] == [b"run|s", b"run|t"]
    assert {m.topic for m in bench.messages} == {"infoplane.events"}
    assert bench.messages[0].timestamp_ms == first.time_ms > 1_600_000_000_000


def test_an_empty_call_is_nothing(make_bench: Make) -> None:
    bench = make_bench()
    bench.roll([], [])
    bench.roll(torch.zeros(0, 5, dtype=torch.long), [], reward=[])
    assert bench.messages == []
    assert bench.dropped() == {}


def test_values_on_a_device_are_read_when_they_have_arrived_and_in_order(make_bench: Make) -> None:
    device = Device()
    bench = make_bench(arrivals=device)
    rewards = torch.tensor([1.0])
    bench.roll(["a"], ["b"], reward=rewards)
    rewards.zero_()
    bench.roll([torch.arange(3)], ["b"], reward=rewards + 2)
    bench.roll(["a"], ["b"], reward=[3.0])
    assert bench.messages == []
    assert [len(late.tensors) for late in device.arrivals] == [1, 2]
    device.arrivals[1].there = True
    bench.log.hand_over()
    assert bench.messages == []
    device.arrivals[0].there = True
    bench.log.hand_over()
    assert [t.columns["reward"].tolist() for t in bench.tables] == [[1.0], [2.0], [3.0]]


def test_what_waits_for_a_device_is_bounded(make_bench: Make) -> None:
    device = Device()
    bench = make_bench(arrivals=device, **{"buffers.queue_bytes": 1 << 16})
    for _ in range(9):
        bench.roll(range(250), range(250), features=torch.ones(250, 16))
    # A call holds 16 KB of features and 2 times 250 integers.
    assert bench.dropped() == {"byte_budget": 250 * 7}
    assert bench.messages == []


def test_close_sends_what_arrives_in_time_and_counts_the_rest(make_bench: Make) -> None:
    device = Device()
    bench = make_bench(arrivals=device, exit_timeout_s=0.1)
    for _ in range(3):
        bench.roll(["a", "b"], torch.ones(2, 3, dtype=torch.long))
    device.arrivals[0].there = True
    bench.log.close()
    assert len(bench.messages) == 1
    assert bench.dropped() == {"device": 4}
    bench.roll(["a"], torch.ones(1, 3, dtype=torch.long))
    assert len(bench.messages) == 2, "after the end, the publisher decides"


def test_a_broken_device_does_not_block_those_behind(make_bench: Make) -> None:
    class Broken:
        def is_done(self) -> bool:
            raise RuntimeError("device-side assert")

    bench = make_bench(arrivals=lambda tensors: Broken())
    bench.roll(["a"], ["b"])
    bench.roll(["a"], ["b"])
    assert len(bench.messages) == 2


def test_nobody_waits_for_a_thread_that_hands_over(make_bench: Make) -> None:
    bench = make_bench()
    with bench.log._handing_over:
        bench.roll(["a"], ["b"])
    assert bench.messages == []
    bench.roll(["a"], ["b"])
    assert len(bench.messages) == 2


def test_time_and_totals_are_counted_from_the_first_call_on(make_bench: Make) -> None:
    bench = make_bench()
    bench.roll(["a"], ["b"])
    found = bench.counters.snapshot()
    assert found["events_sent", ""] == found["events_dropped", "budget"] == 0
    assert 0 < found["event_seconds", ""] < 1
