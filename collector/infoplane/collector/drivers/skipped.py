"""Offsets that a fetch left out.

A broker that gives two producers' batches their offsets before it stores them may show the later batch first: a reader
that stands before both goes on behind the second and never sees the first. The embedded broker does, once in some
thousand batches. Apache Kafka does not, but offsets are missing there for good where a topic was compacted or written
in transactions. So what is missing is asked for again a few times, and then given up.
"""

from __future__ import annotations

from typing import Final

TRIES: Final = 3


class Skipped:
    """Decides, partition by partition, whether to read again from an offset that did not come."""

    def __init__(self) -> None:
        self._asked: dict[int, tuple[int, int]] = {}

    def is_to_be_read_again(self, partition: int, expected: int | None, found: int) -> bool:
        """Return whether the reader, that knew `expected` as next offset and got `found`, must go back to `expected`.

        True at most `TRIES` times for the same offset, so a hole that stays costs as many fetches and no more.
        """
        if expected is None or found <= expected:
            return False
        offset, times = self._asked.get(partition, (expected, 0))
        times = times + 1 if offset == expected else 1
        self._asked[partition] = (expected, times)
        return times <= TRIES
