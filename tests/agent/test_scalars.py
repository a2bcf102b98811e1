from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from infoplane.agent.counters import Counters
from infoplane.agent.layout import Layout
from infoplane.agent.scalars import MAX_PENDING, ScalarLog, ScalarValue, add_region
from infoplane.agent.slots import Slot


def new_slot() -> Slot:
    layout = Layout()
    add_region(layout)
    return Slot(layout, torch.device("cpu"))


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
