"""Which steps are sampled: level by level, and what is announced about it."""

from __future__ import annotations

from typing import Final

_KEPT: Final = 64  # changes remembered; steps go back only when a checkpoint is loaded


class Cadence:
    """The levels of one rank: step s is sampled iff s % 2^level == 0.

    Two ask for a level, a signed command and the governor; the coarser one holds. Written by the
    training thread, read by the publisher's too: the stretches are one tuple that is replaced as a
    whole.

    Attributes:
        base_level: the run's level at attach; no level is finer.
        commanded: the level of the last command; the base level before the first.
    """

    def __init__(self, base_level: int) -> None:
        self.base_level = base_level
        self.commanded = base_level
        self._governed = base_level
        self._held = (0, 0)
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
        return self._is_due(step) and not self._is_held(step)

    def is_missed(self, step: int) -> bool:
        """Return whether readers expect `step`, but it is not sampled because of a `hold`."""
        return self._is_held(step) and self._is_due(step)

    def change(self, level: int, step: int) -> int:
        """Command `level` from the next step, `step` or later, that both levels sample; return that step.

        That step is sent, and its records are the first that announce the level: whoever counts the
        expected steps learns of the change before the first step that is missing because of it.
        """
        self.commanded = level
        return self._settle(step)

    def govern(self, level: int, step: int) -> int:
        """Ask for `level` on behalf of the governor, as `change` does; return the step of the change."""
        self._governed = level
        return self._settle(step)

    def hold(self, first: int, end: int) -> None:
        """Sample none of the steps `first` .. `end` - 1; what is announced stays as it is."""
        self._held = (first, end)

    def _settle(self, step: int) -> int:
        """Let the coarser of both levels hold; return the step from which it does, `step` at the earliest."""
        level = max(self.commanded, self._governed)
        begun = [stretch for stretch in self._stretches if stretch[0] <= step]
        if level == begun[-1][1]:
            self._stretches = tuple(begun[-_KEPT:])
            return step
        both = 1 << max(level, begun[-1][1])
        since = -(-step // both) * both
        self._stretches = (*begun[-_KEPT:], (since, level))
        return since

    def _is_due(self, step: int) -> bool:
        return step % (1 << self.at(step)[0]) == 0

    def _is_held(self, step: int) -> bool:
        return self._held[0] <= step < self._held[1]
