"""What a transport is: the one place where messages leave the training process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from infoplane.agent.counters import Counters


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message ready to leave: `topic` is the full name, `value` one frame of infoplane.wire.

    Attributes:
        events: reward events in it, which are counted besides the message.
    """

    topic: str
    key: bytes
    value: bytes
    timestamp_ms: int
    events: int = 0

    @property
    def nbytes(self) -> int:
        """Return the bytes of key and value together."""
        return len(self.key) + len(self.value)


class Transport(Protocol):
    """Carries messages away. All methods are called by the publisher thread only.

    A transport counts `records_sent` and `bytes_sent` for what it accepts, and the outcomes that it
    learns later (`records_delivered`, `records_dropped` with reason `delivery`) in the Counters
    given at construction.
    """

    def send(self, message: Outgoing) -> bool:
        """Take `message` within a bounded time; False = refused, and the caller counts it."""
        ...

    def poll(self) -> None:
        """Do house-keeping; called often, returns at once."""
        ...

    def close(self, timeout_s: float) -> None:
        """Flush what was accepted and free everything, within `timeout_s` seconds."""
        ...


TransportFactory: TypeAlias = Callable[[Counters], Transport]
"""Builds a transport; called lazily, in the publisher thread of the process that owns it."""
