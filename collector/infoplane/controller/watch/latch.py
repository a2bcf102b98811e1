"""m of the last n windows must vote the same way before anything is said, then a pause."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Latch:
    """Votes of one detector on one metric, window by window.

    Attributes:
        agree: votes of one sign needed.
        of: windows that are looked at.
        cooldown: windows after a verdict in which the latch stays silent.
    """

    agree: int
    of: int
    cooldown: int
    votes: deque[tuple[int, int]] = field(default_factory=deque)  # (window, sign)
    silent_until: int = -1

    def add(self, window: int, sign: int) -> int | None:
        """Take in the vote of a window (-1, 0, 1); returns the first voting window when the latch closes."""
        self.votes.append((window, sign))
        while self.votes and self.votes[0][0] <= window - self.of:
            self.votes.popleft()
        same = [voted for voted, vote in self.votes if vote == sign]
        if sign == 0 or len(same) < self.agree or window < self.silent_until:
            return None
        self.silent_until = window + self.cooldown
        return same[0]
