"""When a reader goes back for offsets that a fetch left out, and when it gives up."""

from __future__ import annotations

import pytest

from infoplane.collector.drivers.skipped import TRIES, Skipped


@pytest.mark.parametrize(("expected", "found"), [(None, 7), (7, 7), (7, 3)])
def test_nothing_is_missing(expected: int | None, found: int) -> None:
    assert not Skipped().is_to_be_read_again(0, expected, found)


def test_a_hole_that_stays_is_asked_for_a_few_times_and_given_up() -> None:
    skipped = Skipped()
    assert [skipped.is_to_be_read_again(0, 5, 8) for _ in range(TRIES + 2)] == [
        *[True] * TRIES,
        *[False] * 2,
    ]


def test_every_hole_and_every_partition_is_asked_for_anew() -> None:
    skipped = Skipped()
    for _ in range(TRIES + 1):
        skipped.is_to_be_read_again(0, 5, 8)
    assert skipped.is_to_be_read_again(0, 9, 11)
    assert skipped.is_to_be_read_again(1, 5, 8)
