"""A transport that keeps messages in memory: the test double."""

from __future__ import annotations

from infoplane.agent.counters import Counters
from infoplane.agent.transports.base import Outgoing


class MemoryTransport:
    """Keeps what it accepts in `messages`, in order.

    Attributes:
        messages: everything accepted so far.
        accepting: set False to refuse everything from then on.
        capacity: refuse beyond this many messages; None = no limit.
        closed: whether `close` was called.
    """

    def __init__(self, counters: Counters, *, capacity: int | None = None) -> None:
        self.messages: list[Outgoing] = []
        self.accepting = True
        self.capacity = capacity
        self.closed = False
        self._counters = counters

    def send(self, message: Outgoing) -> bool:
        """Keep `message`, unless told to refuse."""
        full = self.capacity is not None and len(self.messages) >= self.capacity
        if full or not self.accepting or self.closed:
            return False
        self.messages.append(message)
        self._counters.add("records_sent")
        self._counters.add("bytes_sent", value=message.nbytes)
        self._counters.add("records_delivered")
        return True

    def poll(self) -> None:
        """Do nothing: there is nothing to keep."""

    def close(self, timeout_s: float) -> None:
        """Refuse everything from now on."""
        self.closed = True
