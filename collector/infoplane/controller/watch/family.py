"""The change detector of one metric over all its taps."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from infoplane.collector.taps import depth_key
from infoplane.controller.watch.change import ChangeScore
from infoplane.controller.watch.latch import Latch

LAST_BLOCKS = 2


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the taps of one metric said together when the latch closed."""

    first_window: int
    sign: int
    pattern: str  # all | late | half
    taps: tuple[str, ...]  # that voted
    scores: Mapping[str, float]


@dataclass(slots=True)
class Family:
    """One metric: a change score per tap, votes where enough taps agree, and a latch.

    A single series is not trusted: with dozens of series some are always unusual. A window votes when at least half
    of the taps, or the last two, moved by more than the threshold in one direction.
    """

    threshold: float
    warmup: int
    latch: Latch
    scores: dict[str, ChangeScore] = field(default_factory=dict)
    windows: int = 0
    newest: int = -1
    strongest: float = math.nan  # largest |score| of the newest window

    def add(self, window: int, values: Mapping[str, float], plan: float | None) -> Agreement | None:
        """Take in all taps of one window; returns what they agree on when the latch closes."""
        if window <= self.newest:
            return None
        self.newest = window
        self.windows += 1
        scores = {
            tap: self.scores.setdefault(tap, ChangeScore()).add(value, plan)
            for tap, value in values.items()
        }
        known = [abs(score) for score in scores.values() if math.isfinite(score)]
        self.strongest = max(known, default=math.nan)
        taps = sorted(scores, key=depth_key)
        sign, pattern = self._vote(taps, scores)
        first = self.latch.add(window, sign)
        if first is None:
            return None
        voted = tuple(tap for tap in taps if scores[tap] * sign >= self.threshold)
        return Agreement(first, sign, pattern, voted, scores)

    def _vote(self, taps: list[str], scores: Mapping[str, float]) -> tuple[int, str]:
        if self.windows <= self.warmup or not taps:
            return 0, ""
        for sign in (-1, 1):
            voted = [
                tap
                for tap in taps
                if math.isfinite(scores[tap]) and scores[tap] * sign >= self.threshold
            ]
            late = taps[-LAST_BLOCKS:]
            if len(voted) == len(taps):
                return sign, "all"
            if len(taps) > LAST_BLOCKS and all(tap in voted for tap in late):
                return sign, "late" if set(voted) == set(late) else "half"
            if 2 * len(voted) >= len(taps) and len(voted) > 1:
                return sign, "half"
        return 0, ""
