"""The memory transport is the double that other tests trust."""

from __future__ import annotations

from infoplane.agent.counters import Counters
from infoplane.agent.transports import MemoryTransport, Outgoing

MESSAGE = Outgoing("t", b"key", b"value", 1)


def test_it_keeps_order_and_counts() -> None:
    counters = Counters()
    transport = MemoryTransport(counters)
    other = Outgoing("t", b"", b"", 2)
    assert transport.send(MESSAGE)
    assert transport.send(other)
    assert transport.messages == [MESSAGE, other]
    assert counters.snapshot()["bytes_sent", ""] == MESSAGE.nbytes == 8


def test_it_refuses_when_told_full_or_closed() -> None:
    transport = MemoryTransport(Counters(), capacity=1)
    transport.accepting = False
    assert not transport.send(MESSAGE)
    transport.accepting = True
    assert transport.send(MESSAGE)
    assert not transport.send(MESSAGE)
    transport.capacity = None
    transport.close(0.0)
    assert transport.closed
    assert not transport.send(MESSAGE)
    assert transport.messages == [MESSAGE]
