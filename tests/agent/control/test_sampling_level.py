"""A change of level: what is sampled, what is announced, and that the collector expects just that."""

from __future__ import annotations

import pytest

from infoplane.agent.cadence import Cadence
from infoplane.collector.assemble.roster import Roster
from infoplane.wire import infoplane_pb2 as pb


def test_a_level_begins_at_the_next_step_that_both_levels_sample() -> None:
    cadence = Cadence(2)
    assert cadence.change(4, 17) == 32
    sampled = [step for step in range(70) if cadence.samples(step)]
    assert sampled == [*range(0, 32, 4), 32, 48, 64]
    assert cadence.change(2, 65) == 80
    assert [step for step in range(64, 90) if cadence.samples(step)] == [64, 80, 84, 88]


def test_a_change_that_has_not_begun_is_replaced() -> None:
    cadence = Cadence(0)
    assert cadence.change(5, 3) == 32
    assert cadence.level == 5
    assert cadence.change(2, 9) == 12
    assert [step for step in range(9, 22) if cadence.samples(step)] == [9, 10, 11, 12, 16, 20]
    assert cadence.level == 2


def test_many_changes_stay_bounded() -> None:
    cadence = Cadence(0)
    for step in range(0, 4000, 4):
        cadence.change(2 * (step % 8 == 0), step)
    assert len(cadence._stretches) <= 65


@pytest.mark.parametrize("changes", [
    [(40, 3)], [(40, 3), (41, 0)], [(33, 4), (70, 2), (100, 6)], [(33, 4), (34, 2)],
])  # fmt: skip
def test_the_roster_expects_what_is_sampled(changes: list[tuple[int, int]]) -> None:
    """The records of sampled steps are all that the collector gets to see."""
    base, steps = 1, 256
    cadence, roster = Cadence(base), Roster(base)
    present = []
    for step in range(steps):
        if cadence.samples(step):
            level, since = cadence.at(step)
            roster.learn(pb.Sender(index=0, count=1, first_step=0, level=level, level_since=since))
            present.append(step)
        for at, level in changes:
            if at == step:
                cadence.change(level, step + 1)
    for first in range(0, steps, 16):
        held = [step for step in present if first <= step < first + 16]
        assert roster.expected(first, first + 15) == len(held)
