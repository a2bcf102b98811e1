"""Frames survive any cut of the stream, and messages survive the ring."""

from __future__ import annotations

import pytest

from infoplane.agent.sidecar import protocol
from infoplane.agent.transports import Outgoing


@pytest.mark.parametrize("message", [
    Outgoing("topic", b"run|unit", b"value" * 100, 1_700_000_000_000, 7),
    Outgoing("t", b"", b"", 0),
    Outgoing("präfix.", b"k", bytes(range(256)), -1),
])  # fmt: skip
def test_a_message_comes_back_as_it_was(message: Outgoing) -> None:
    assert protocol.read_message(b"".join(protocol.lay_out(message))) == message


@pytest.mark.parametrize("size", [1, 3, 16, 17, 4096])
def test_frames_survive_any_cut(size: int) -> None:
    before = {("a", ""): 1.0, ("b", "x"): 2.0}
    now = {("a", ""): 1.0, ("b", "x"): 5.0, ("c", ""): 0.5}
    stream = (
        protocol.frame(protocol.TAKEN, 3)
        + protocol.counts_frame(before, now)
        + protocol.frame(protocol.MESSAGE, 2**32 - 1, 2**40)
    )
    frames = protocol.Frames()
    pieces = [stream[i : i + size] for i in range(0, len(stream), size)]
    found = [one for piece in pieces for one in frames.feed(piece)]
    assert [kind for kind, *_ in found] == [protocol.TAKEN, protocol.COUNTS, protocol.MESSAGE]
    assert protocol.read_counts(found[1][3]) == [("b", "x", 3.0), ("c", "", 0.5)]
    assert found[2][1:3] == (2**32 - 1, 2**40)


def test_nothing_is_said_where_nothing_grew() -> None:
    assert protocol.counts_frame({("a", ""): 1.0}, {("a", ""): 1.0}) == b""
