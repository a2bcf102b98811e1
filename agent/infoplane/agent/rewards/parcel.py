"""The parcel of one observation on its way to the publisher thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infoplane.agent.rewards.device import Arrival
from infoplane.agent.rewards.errors import EventError
from infoplane.agent.rewards.messages import EventEncoder
from infoplane.agent.rewards.observation import Observation
from infoplane.agent.transports.base import Outgoing


@dataclass(frozen=True, slots=True)
class EventParcel:
    """The events of one call. Where it is dropped whole, that is one record and `events` events.

    Attributes:
        nbytes: bytes that its copies hold.
        events: number of events.
        arrival: when it may be read; None = now.
        refuse: called when its contents turn out to be wrong, with the number of events and what is wrong.
    """

    encoder: EventEncoder
    seen: Observation
    nbytes: int
    events: int
    arrival: Arrival | None
    refuse: Callable[[int, EventError], None]

    def encode(self) -> Sequence[Outgoing]:
        """Return the messages; runs in the publisher thread."""
        try:
            return self.encoder.encode(self.seen)
        except EventError as error:
            self.refuse(self.events, error)
            return ()

    def release(self) -> None:
        """Do nothing: the copies go with the parcel."""
