"""How unusual the newest window-to-window change of one series is."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

MEMORY = 24  # changes that the noise is judged by
DRIFT = 12  # changes that the trend is judged by
MIN_PLAN = 0.05  # a plan near zero must not blow up what is left of the change


@dataclass(slots=True)
class ChangeScore:
    """Robust z of window-to-window changes, per unit of the announced plan.

    While a run follows its plan, a step moves a representation in proportion to the learning rate, so changes are
    divided by the *announced* rate (relative to the largest so far); the measured rate is never used, as it would
    explain a fault away. Trend: median of the last changes. Noise: 1.4826 x median absolute deviation. Cost:
    O(MEMORY) a window.
    """

    changes: deque[float] = field(default_factory=lambda: deque(maxlen=MEMORY))
    last: float = math.nan
    largest_plan: float = 0.0

    def add(self, value: float, plan: float | None) -> float:
        """Take in the value of the next window and return its z, NaN while too little is known.

        Args:
            value: the estimate; not finite = missing, the next change spans the gap.
            plan: announced learning rate of the window; None if the run announces none.
        """
        if not math.isfinite(value):
            return math.nan
        previous, self.last = self.last, value
        if not math.isfinite(previous):
            return math.nan
        change = (value - previous) / self._pace(plan)
        score = self._score(change)
        self.changes.append(change)
        return score

    def _pace(self, plan: float | None) -> float:
        if plan is None or not math.isfinite(plan) or plan < 0:
            return 1.0
        self.largest_plan = max(self.largest_plan, plan)
        return max(plan / self.largest_plan, MIN_PLAN) if self.largest_plan > 0 else 1.0

    def _score(self, change: float) -> float:
        if len(self.changes) < DRIFT // 2:
            return math.nan
        past = np.array(self.changes)
        trend = float(np.median(past[-DRIFT:]))
        noise = 1.4826 * float(np.median(np.abs(past - np.median(past))))
        # A series that has never moved has no scale to judge a move by.
        return (change - trend) / noise if noise > 0 else math.nan
