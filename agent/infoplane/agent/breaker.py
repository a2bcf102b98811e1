"""The breaker: errors in taps end taps, never training."""

from __future__ import annotations

import logging
from typing import Final

import torch

from infoplane.agent.counters import Counters

ERRORS_PER_TAP: Final = 3
TAPS_OFF: Final = 3
_log = logging.getLogger("infoplane.agent")


class Breaker:
    """Counts errors per tap: 3 switch that tap off; 3 such taps, or memory running out, switch all off."""

    def __init__(self, counters: Counters) -> None:
        self.off: set[str] = set()
        self.is_open = False
        self._errors: dict[str, int] = {}
        self._counters = counters

    def record(self, tap: str, error: Exception) -> None:
        """Take note of `error` in `tap`."""
        self._counters.add("tap_errors", type(error).__name__)
        count = self._errors[tap] = self._errors.get(tap, 0) + 1
        if count == 1:
            _log.warning("infoplane: error in tap %s: %r", tap, error)
        if count >= ERRORS_PER_TAP and tap not in self.off:
            self.off.add(tap)
            self._counters.add("taps_off")
            _log.warning("infoplane: tap %s is off after %d errors", tap, count)
        if not self.is_open and (len(self.off) >= TAPS_OFF or _is_memory(error)):
            self.is_open = True
            self._counters.add("breaker_open")
            _log.error("infoplane: all taps are off; training goes on. Last error: %r", error)


def _is_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    # On a CPU, torch reports it as a plain RuntimeError.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
