"""Who is expected: the senders of one unit in one attempt, their levels, first and last steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from infoplane.wire import DecodeError
from infoplane.wire import infoplane_pb2 as pb

MAX_SENDERS = 1 << 20


@dataclass(slots=True)
class Member:
    """One sender: from `first_step` on, at the levels announced as (since, level), until `last_step`."""

    first_step: int
    levels: list[tuple[int, int]]
    last_step: int | None = None  # None: has not said bye; first_step - 1: finished nothing

    def level_at(self, step: int) -> int:
        """Return the level that holds at `step`: the latest announced one that began by then."""
        level = self.levels[0][1]
        for since, announced in self.levels:
            if since <= step:
                level = announced
        return level

    def announce(self, since: int, level: int) -> bool:
        """Note a level; returns whether it was news."""
        if (since, level) in self.levels:
            return False
        self.levels = sorted([*self.levels, (since, level)])
        return True


@dataclass(slots=True)
class Roster:
    """The expected set of one unit (docs/architecture.md, section 4)."""

    base_level: int
    count: int = 0
    members: dict[int, Member] = field(default_factory=dict)
    version: int = 0  # grows whenever an expected set may have changed

    def learn(self, sender: pb.Sender) -> None:
        """Take in what a message says of its sender.

        Raises:
            DecodeError: index and count contradict each other.
        """
        if not sender.index < sender.count <= MAX_SENDERS:
            raise DecodeError("content", f"sender {sender.index} of {sender.count}")
        if max(sender.level, sender.unit_level) > 62:
            raise DecodeError("content", f"level {sender.level}, {sender.unit_level}")
        # Rare units: a rank that has not spoken is not expected more often than the unit is sampled.
        self.base_level = max(self.base_level, sender.unit_level)
        member = self.members.get(sender.index)
        changed = sender.count > self.count
        if member is None:
            member = Member(sender.first_step, [(sender.level_since, sender.level)])
            self.members[sender.index] = member
            changed = True
        else:
            changed |= member.announce(sender.level_since, sender.level)
            if sender.first_step < member.first_step:
                member.first_step, changed = sender.first_step, True
        self.count = max(self.count, sender.count)
        self.version += changed

    def part(self, index: int, last_step: int) -> None:
        """Note that sender `index` left after `last_step` (first step - 1 if it finished none)."""
        member = self.members[index]
        if member.last_step != last_step:
            member.last_step = last_step
            self.version += 1

    def expected(self, first_step: int, last_step: int) -> int:
        """Return the number of expected (sender, step) pairs with first_step <= step <= last_step."""
        known = sum(_expected_of(member, first_step, last_step) for member in self.members.values())
        silent = self.count - len(self.members)
        if silent and self.members:
            begin = max(first_step, min(member.first_step for member in self.members.values()))
            known += silent * _multiples(self.base_level, begin, last_step)
        return known

    def dump(self) -> dict[str, Any]:
        """Return the roster as JSON-ready values."""
        return {
            "base_level": self.base_level,
            "count": self.count,
            "version": self.version,
            "members": [
                [index, member.first_step, member.levels, member.last_step]
                for index, member in sorted(self.members.items())
            ],
        }

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Roster:
        """Return the roster that `dump` described."""
        members = {
            int(index): Member(int(first), [(int(s), int(v)) for s, v in levels], last)
            for index, first, levels, last in dumped["members"]
        }
        return cls(dumped["base_level"], dumped["count"], members, dumped["version"])


def _expected_of(member: Member, first_step: int, last_step: int) -> int:
    """Count expected steps of one member, stretch of equal level by stretch."""
    begin = max(first_step, member.first_step)
    end = last_step if member.last_step is None else min(last_step, member.last_step)
    bounds = sorted({begin, *(since for since, _ in member.levels if begin < since <= end)})
    total = 0
    for place, start in enumerate(bounds):
        stop = bounds[place + 1] - 1 if place + 1 < len(bounds) else end
        total += _multiples(member.level_at(start), start, stop)
    return total


def _multiples(level: int, first: int, last: int) -> int:
    """Count the multiples of 2^level in first .. last."""
    if last < first:
        return 0
    return (last >> level) - ((first - 1) >> level)
