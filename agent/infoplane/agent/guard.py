"""What stands around everything that the agent does with tensors inside a forward pass."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, Final, Protocol

import torch

# Private in torch; where it is missing, only a backward inside a forward goes undetected.
_graph_task: Final[Callable[[], int]] = getattr(torch._C, "_current_graph_task_id", lambda: -1)


def in_backward() -> bool:
    """Return whether a backward pass is calling: what runs forward now is recomputed (activation checkpointing)."""
    return _graph_task() != -1


class Guarded(Protocol):
    """Whose errors and time are counted."""

    seconds: float

    def failed(self, tap: str, error: Exception) -> None:
        """Take note of an error."""
        ...


class Guard:
    """Around everything that touches tensors: no gradient, no autocast, no exception, time measured."""

    def __init__(self, recorder: Guarded, tap: str, device_type: str, *, is_timed: bool) -> None:
        self._recorder = recorder
        self._tap = tap
        self._is_timed = is_timed
        self._no_grad = torch.no_grad()
        # Under autocast the projection would run in bfloat16.
        self._autocast = torch.autocast(device_type, enabled=False)

    def __enter__(self) -> None:
        self._start = perf_counter()
        self._no_grad.__enter__()
        self._autocast.__enter__()  # type: ignore[no-untyped-call]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: Any
    ) -> bool:
        self._autocast.__exit__(kind, error, None)
        self._no_grad.__exit__(kind, error, None)
        if self._is_timed:
            self._recorder.seconds += perf_counter() - self._start
        if isinstance(error, Exception):
            self._recorder.failed(self._tap, error)
            return True
        return False
