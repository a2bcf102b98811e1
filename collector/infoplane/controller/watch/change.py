"""How unusual the newest window-to-window change of one series is."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

MEMORY = 16  # changes that the noise is judged by: fewer are unreliable, more remember the start of training
DRIFT = 12  # changes that the trend is judged by
MIN_PLAN = 0.05  # a plan near zero must not blow up what is left of the change


@dataclass(slots=True)
class ChangeScore:
    """Robust z of window-to-window changes, judged against the announced plan.

    While a run follows its plan, its drift is in proportion to the learning rate: the expected change of a window is
    its *announced* rate times the median of (change / announced rate) of the last windows. The measured rate is never
    used, as it would explain a fault away. Noise: 1.4826 x median absolute deviation of what that left over. It is
    taken to grow with the plan and never to shrink with it, since only a part of it comes from the optimizer.
    Cost: O(MEMORY) a window.
    """

    changes: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MEMORY))
    last: float = math.nan

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
        pace = plan if plan is not None and math.isfinite(plan) and plan > 0 else 1.0
        score = self._score(value - previous, pace)
        self.changes.append((value - previous, pace))
        return score

    def _score(self, change: float, pace: float) -> float:
        if len(self.changes) < DRIFT // 2:
            return math.nan
        past, paces = np.array(self.changes).T
        # A plan near zero must not blow up the drift per unit of it.
        usable = np.maximum(paces, MIN_PLAN * float(paces.max()))
        drift = float(np.median((past / usable)[-DRIFT:]))
        left = past - drift * paces
        noise = 1.4826 * float(np.median(np.abs(left - np.median(left))))
        noise *= max(1.0, pace / float(np.median(paces)))
        # A series that has never moved has no scale to judge a move by.
        return (change - drift * pace) / noise if noise > 0 else math.nan
