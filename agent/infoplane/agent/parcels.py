"""Parcels: what the training thread hands to the publisher, one per unit and sampled step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infoplane.agent.records import Envelope
from infoplane.agent.slots import Loan
from infoplane.agent.transports.base import Outgoing
from infoplane.wire import infoplane_pb2 as pb

Fill = Callable[[pb.Record], None]


@dataclass(slots=True)
class UnitParcel:
    """One record to be: who, when, and a function that fills the body.

    Attributes:
        nbytes: bytes of the slot that it keeps busy, counted against the queue.
    """

    envelope: Envelope
    unit: str
    seq: int
    step: int
    time_ms: int
    nbytes: int
    fill: Fill
    loan: Loan

    def encode(self) -> Sequence[Outgoing]:
        """Return the framed record; runs in the publisher thread."""
        record = self.envelope.record(self.unit, self.seq, self.step, self.time_ms)
        self.fill(record)
        return [self.envelope.outgoing(record)]

    def release(self) -> None:
        """Give the slot back."""
        self.loan.release()
