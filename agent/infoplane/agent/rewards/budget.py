"""The byte budget of events: a token bucket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

BURST_S: Final = 4.0


class ByteBucket:
    """Fills at `bytes_per_s` up to 4 s worth, and is full at first; one thread.

    What is spent beyond its level is a debt of at most another 4 s worth, paid back before anything else.

    Args:
        bytes_per_s: the rate.
        clock: seconds, never going back.
    """

    def __init__(self, bytes_per_s: float, clock: Callable[[], float]) -> None:
        self._rate = bytes_per_s
        self._clock = clock
        self._capacity = self._level = bytes_per_s * BURST_S
        self._last = clock()

    def available(self) -> float:
        """Return the bytes that may be spent now; negative in debt."""
        now = self._clock()
        earned = self._rate * max(now - self._last, 0.0)
        self._last = now
        self._level = min(self._level + earned, self._capacity)
        return self._level

    def spend(self, nbytes: float) -> None:
        """Take `nbytes` out."""
        self._level = max(self.available() - nbytes, -self._capacity)
