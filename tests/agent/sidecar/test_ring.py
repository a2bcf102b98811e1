"""The ring: a queue in shared memory, read through a second mapping as the sidecar does."""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Iterator

import pytest

from infoplane.agent.sidecar.ring import Ring


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring.create(1 << 16)
    yield ring
    ring.close()


def test_what_was_placed_is_read_through_another_mapping(ring: Ring) -> None:
    other = Ring(os.dup(ring.fd), ring.nbytes)
    start = ring.place([b"abc", b"", b"defg"])
    assert start is not None
    assert other.read(start, 7) == b"abcdefg"
    other.close()


def test_a_full_ring_refuses_and_goes_on_when_the_oldest_is_freed(ring: Ring) -> None:
    half = bytes(ring.nbytes // 2)
    assert (ring.place([half]), ring.place([half])) == (0, ring.nbytes // 2)
    assert ring.place([b"x"]) is None
    ring.free(1)
    assert ring.place([b"x"]) == 0
    assert ring.place([half]) is None, "one byte is held where it would go"
    assert ring.place([bytes(ring.nbytes + 1)]) is None


def test_an_empty_ring_begins_at_the_lowest_page(ring: Ring) -> None:
    for _ in range(100):
        assert ring.place([bytes(4000)]) == 0
        ring.free(1)


def test_freeing_more_than_there_is_does_no_harm(ring: Ring) -> None:
    ring.place([b"x"])
    ring.free(5)
    assert len(ring) == 0


def test_nothing_is_overwritten_before_it_is_freed(ring: Ring) -> None:
    choice = random.Random(1)
    held: deque[tuple[int, bytes]] = deque()
    refused = 0
    for number in range(5000):
        data = bytes([number % 256]) * choice.randint(1, 9000)
        start = ring.place([data])
        if start is None:
            refused += 1
        else:
            held.append((start, data))
        while held and (start is None or choice.random() < 0.4):
            begin, expected = held.popleft()
            assert ring.read(begin, len(expected)) == expected
            ring.free(1)
            start = 0
    assert refused > 100
