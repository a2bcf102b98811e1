from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from infoplane.agent.counters import Counters
from infoplane.agent.layout import Layout
from infoplane.agent.scalars import MAX_PENDING, ScalarLog, ScalarValue, add_region
from infoplane.agent.slots import Slot, SlotRing


def new_slot() -> Slot:
    layout = Layout()
    add_region(layout)
    slot = SlotRing(layout, 1, torch.device("cpu")).take()
    assert slot is not None
    return slot


def test_numbers_and_tensors_are_kept_with_their_step_and_then_forgotten() -> None:
    log = ScalarLog(Counters())
    weight = torch.tensor([2.0], requires_grad=True)
    log.add(3, {"loss": weight * 2, "rate": 0.5})
    log.add(4, {"loss": torch.tensor(7, dtype=torch.int32)})
    expected = [
        ScalarValue("loss", 3, 4.0),
        ScalarValue("rate", 3, 0.5),
        ScalarValue("loss", 4, 7.0),
    ]
    assert log.move_to(new_slot()) == expected
    assert log.move_to(new_slot()) == []


def test_a_tensor_that_is_reused_in_place_keeps_its_logged_value() -> None:
    log, total = ScalarLog(Counters()), torch.tensor(1.0)
    log.add(0, {"total": total})
    total.zero_()
    assert log.move_to(new_slot())[0].value == 1.0


@pytest.mark.parametrize("value", [torch.ones(3), "text", None, object()])
def test_what_is_no_number_is_counted_and_warned_about_once(
    value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    counters = Counters()
    log = ScalarLog(counters)
    with caplog.at_level(logging.WARNING, "infoplane.agent"):
        log.add(0, {"bad": value, "good": 1.0})
        log.add(1, {"bad": value})
    assert [scalar.name for scalar in log.move_to(new_slot())] == ["good"]
    assert counters.snapshot() == {("scalars_dropped", "type"): 2}
    assert len(caplog.records) == 1


def test_pending_values_are_bounded() -> None:
    counters = Counters()
    log = ScalarLog(counters)
    for step in range(MAX_PENDING + 5):
        log.add(step, {"x": 1.0})
    assert len(log.move_to(new_slot())) == MAX_PENDING
    assert counters.snapshot() == {("scalars_dropped", "full"): 5}


def sent(log: ScalarLog) -> list[tuple[int, float]]:
    return [(scalar.step, scalar.value) for scalar in log.move_to(new_slot())]


def test_by_default_every_value_is_sent() -> None:
    log = ScalarLog(Counters())
    for step in range(5):
        log.add(step, {"rate": 0.1})
    assert len(sent(log)) == 5


def test_a_value_that_hardly_changed_since_the_last_one_sent_is_left_out() -> None:
    counters = Counters()
    log = ScalarLog(counters, delta=0.1, span=100)
    for step, value in enumerate([1.0, 1.09, 1.05, 1.11, 1.0, 1.25, -1.25, 0.0, 0.0, 1e-9]):
        log.add(step, {"x": value})
    # Each is compared with the last one that was sent, so a slow drift is not lost.
    assert sent(log) == [(0, 1.0), (3, 1.11), (5, 1.25), (6, -1.25), (7, 0.0), (9, 1e-9)]
    assert counters.snapshot() == {("scalars_unchanged", ""): 4}


def test_one_value_a_window_is_sent_at_least() -> None:
    log = ScalarLog(Counters(), delta=0.5, span=8)
    found = []
    for step in range(32):
        log.add(step, {"rate": 0.1, "step_size": 2.0})
        if step % 4 == 3:
            found += sent(log)
    assert found == [(step, value) for step in (0, 8, 16, 24) for value in (0.1, 2.0)]


def test_names_are_gated_apart_and_what_cannot_be_compared_is_sent() -> None:
    log = ScalarLog(Counters(), delta=0.5, span=100)
    nan, inf = float("nan"), float("inf")
    for step in range(2):
        log.add(step, {"a": 1.0, "b": 100.0, "c": nan, "d": inf, "e": torch.tensor(3.0)})
    names = [(scalar.name, scalar.step) for scalar in log.move_to(new_slot())]
    assert names == [("a", 0), ("b", 0), ("c", 0), ("d", 0), ("e", 0), ("c", 1), ("d", 1)]
