"""SIGINT and SIGTERM as an event that loops look at."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopSignal(threading.Event):
    """Set by the first SIGINT or SIGTERM; `exit_code` is then 128 + the signal."""

    def __init__(self) -> None:
        super().__init__()
        self.exit_code = 0

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Take note of a signal."""
        self.exit_code = 128 + number
        self.set()


@contextmanager
def stop_on_signals() -> Iterator[StopSignal]:
    """Hold a StopSignal that replaces the usual handlers inside the `with`; main thread only."""
    stop = StopSignal()
    wanted = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, stop.receive) for number in wanted}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
