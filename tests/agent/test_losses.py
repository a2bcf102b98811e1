"""What a rank owes for a sampled step and does not send is counted: no gap without a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def dropped(monitor: Any) -> dict[str, float]:
    return {n: v for n, v in monitor.stats().items() if n.startswith("records_dropped") and v}


def test_a_unit_that_nothing_was_seen_of_is_counted(make_loop: Callable[..., Any]) -> None:
    loop = make_loop()
    loop.step()
    assert not dropped(loop.monitor)

    def fail(*_: Any) -> torch.Tensor:
        raise RuntimeError("a tap fails")

    recorder = loop.monitor._session.parts.recorder
    recorder._sketch = fail
    loop.step()
    owed = loop.monitor._session.parts.envelope.units_at(1)
    records = [r for r in loop.records() if r.step == 1 and r.WhichOneof("body") != "bye"]
    assert len(records) < owed
    assert dropped(loop.monitor) == {"records_dropped{not_captured}": owed - len(records)}


def test_an_error_at_the_boundary_is_counted(make_loop: Callable[..., Any]) -> None:
    loop = make_loop()
    loop.step()

    def fail(*_: Any) -> Any:
        raise RuntimeError("no scalars")

    session = loop.monitor._session
    session.scalars.move_to = fail
    loop.step()
    owed = session.parts.envelope.units_at(1)
    assert dropped(loop.monitor) == {"records_dropped{boundary}": owed}
    assert loop.monitor.stats()["boundary_errors{RuntimeError}"] == 1
