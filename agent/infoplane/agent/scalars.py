"""Scalars that the training loop logs, kept without reading the device until the copy of a sampled step."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from infoplane.agent.counters import Counters
from infoplane.agent.layout import Layout
from infoplane.agent.slots import Slot

MAX_PENDING: Final = 1024
_log = logging.getLogger("infoplane.agent")


@dataclass(frozen=True, slots=True)
class ScalarValue:
    """One value: a number, or `place` in the slot's region when it came from a device."""

    name: str
    step: int
    value: float
    is_announced: bool = False
    place: int = -1


def add_region(layout: Layout) -> None:
    """Reserve room for values that are still on the device."""
    layout.add("scalars", torch.float64, MAX_PENDING)


class ScalarLog:
    """Collects values between sampled steps; at most 1024, further ones are counted and dropped.

    Args:
        counters: takes `scalars_dropped` by reason, and `scalars_unchanged`.
        delta: a number that differs from the last one of its name by at most `delta` of that one's magnitude is left
            out; 0: none is. The first one in a window always stays. Values on a device are not compared, as that would
            mean to read them.
        span: steps in a window.
    """

    def __init__(self, counters: Counters, delta: float = 0.0, span: int = 1) -> None:
        self._pending: list[tuple[str, int, float | torch.Tensor]] = []
        self._counters = counters
        self._has_warned = False
        self._delta = delta
        self._span = span
        self._last: dict[str, tuple[int, float]] = {}  # name -> (window, value) sent last

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Keep `values` of `step`; never raises. Tensors on a device are copied there, not read."""
        for name, value in values.items():
            if len(self._pending) >= MAX_PENDING:
                self._counters.add("scalars_dropped", "full")
                continue
            try:
                kept = _kept(value)
                if self._delta and isinstance(kept, float) and self._is_unchanged(name, step, kept):
                    self._counters.add("scalars_unchanged")
                    continue
                self._pending.append((name, step, kept))
            except Exception as error:  # noqa: BLE001 - training goes on
                self._refuse(name, error)

    def move_to(self, slot: Slot) -> list[ScalarValue]:
        """Return everything collected and forget it; device values go into the slot's region."""
        pending, self._pending = self._pending, []
        moved = []
        for place, (name, step, value) in enumerate(pending):
            if isinstance(value, torch.Tensor):
                slot.device["scalars"][place].copy_(value)
                moved.append(ScalarValue(name, step, 0.0, place=place))
            else:
                moved.append(ScalarValue(name, step, value))
        return moved

    def _is_unchanged(self, name: str, step: int, value: float) -> bool:
        """Return whether `value` need not be sent; if it must be, later ones are compared with it."""
        window = step // self._span
        before, last = self._last.get(name, (-1, 0.0))
        # Written so that NaN counts as a change.
        if window == before and abs(value - last) <= self._delta * abs(last):
            return True
        self._last[name] = (window, value)
        return False

    def _refuse(self, name: str, error: Exception) -> None:
        self._counters.add("scalars_dropped", "type")
        if not self._has_warned:
            self._has_warned = True
            _log.warning("infoplane: scalar %s is not a number: %r", name, error)


def _kept(value: Any) -> float | torch.Tensor:
    if isinstance(value, torch.Tensor):
        single = value.detach().reshape(())
        # A clone, because loops reuse accumulators in place.
        return float(single) if single.device.type == "cpu" else single.clone()
    return float(value)
