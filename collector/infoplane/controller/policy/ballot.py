"""Votes of one series on one condition: m of its last n windows, then quiet until the value came back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from infoplane.controller.policy.rules import Condition

CLEAR_SHARE: Final = (
    0.2  # of the threshold: how far a value must come back before the next vote counts
)
# Windows between two results of one series at most: a cadence, or windows in which a stream was silent. What lies
# further back than that for every vote is no "consecutive" window any more.
LONGEST_CADENCE: Final = 8


@dataclass(slots=True)
class Ballot:
    """What is remembered of one series.

    Attributes:
        newest: window of the newest result; older and equal ones are repetitions and do not count.
        armed: whether the value has come back since the last action.
        votes: (window, vote) of the newest windows, at most as many as the condition looks at.
    """

    newest: int = -1
    armed: bool = True
    votes: deque[tuple[int, bool]] = field(default_factory=deque)

    def add(self, condition: Condition, window: int, value: float | None) -> bool:
        """Take in the result of a window, None if it may not vote; return whether the rule should act now."""
        if window <= self.newest:
            return False
        self.newest = window
        if not self.armed and value is not None and has_cleared(condition, value):
            self.armed = True
            self.votes.clear()
        vote = value is not None and exceeds(condition, value)
        self.votes.append((window, vote))
        oldest = window - condition.of * LONGEST_CADENCE
        while len(self.votes) > condition.of or self.votes[0][0] <= oldest:
            self.votes.popleft()
        return vote and self.armed and sum(one for _, one in self.votes) >= condition.agree

    def dump(self) -> list[Any]:
        """Return it as JSON-ready values."""
        return [self.newest, int(self.armed), [[window, int(vote)] for window, vote in self.votes]]

    @classmethod
    def load(cls, dumped: list[Any]) -> Ballot:
        """Return what `dump` was called on."""
        newest, armed, votes = dumped
        return cls(newest, bool(armed), deque((window, bool(vote)) for window, vote in votes))


def exceeds(condition: Condition, value: float) -> bool:
    """Whether `value` lies beyond the threshold (NaN does not)."""
    if condition.above is not None:
        return value > condition.above
    return condition.below is not None and value < condition.below


def has_cleared(condition: Condition, value: float) -> bool:
    """Whether `value` has come back by a fifth of the threshold."""
    margin = CLEAR_SHARE * abs(condition.threshold)
    if condition.above is not None:
        return value <= condition.above - margin
    return condition.below is not None and value >= condition.below + margin
