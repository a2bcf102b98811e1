"""Which steps are sampled: level by level, and what is announced about it."""

from __future__ import annotations

from typing import Final

_KEPT: Final = 64  # changes remembered; steps go back only when a checkpoint is loaded


class Cadence:
    """The levels of one rank: step s is sampled iff s % 2^level == 0.

    Written by the training thread, read by the publisher's too: the stretches are one tuple that is
    replaced as a whole.
    """

    def __init__(self, base_level: int) -> None:
        self.base_level = base_level
        self._stretches: tuple[tuple[int, int], ...] = ((0, base_level),)

    @property
    def level(self) -> int:
        """Return the level that was asked for last; it may begin at a later step."""
        return self._stretches[-1][1]

    def at(self, step: int) -> tuple[int, int]:
        """Return (level, first step at which it holds) of the level in force at `step`."""
        since, level = self._stretches[0]
        for start, value in self._stretches:
            if start <= step:
                since, level = start, value
        return level, since

    def samples(self, step: int) -> bool:
        """Return whether `step` is sampled."""
        return step % (1 << self.at(step)[0]) == 0

    def change(self, level: int, step: int) -> int:
        """Sample at `level` from the next step, `step` or later, that both levels sample; return that step.

        That step is sent, and its records are the first that announce the level: whoever counts the
        expected steps learns of the change before the first step that is missing because of it.
        """
        begun = [stretch for stretch in self._stretches if stretch[0] <= step]
        both = 1 << max(level, begun[-1][1])
        since = -(-step // both) * both
        self._stretches = (*begun[-_KEPT:], (since, level))
        return since
