"""Windows of one stream of reward events while they are open or may still be corrected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from infoplane.collector.assemble.event_table import EventTable
from infoplane.wire import infoplane_pb2 as pb


@dataclass(frozen=True, slots=True)
class EventSettings:
    """How long ASSEMBLE waits for events, in milliseconds of the log's clock."""

    deadline_ms: int = 5_000
    idle_ms: int = 15_000
    open_limit_ms: int = 900_000
    lateness_ms: int = 120_000
    late_delay_ms: int = 5_000
    batch: int = 1024  # events in a window of a stream without steps


@dataclass(slots=True)
class EventWindow:
    """One window of a stream.

    Times are the clock of the stream's key, milliseconds.
    """

    index: int
    steps: tuple[int, int]  # first and last, (0, 0) if the producer knows none
    position: int  # of the first batch: a restart reads from here
    opened_ms: int
    table: EventTable
    touched_ms: int = 0
    offered: int = 0
    received: int = 0
    seen: set[tuple[int, int]] = field(default_factory=set)  # (rank, seq) of batches
    moved_on_ms: int | None = None  # when a later window began
    final_ms: int | None = None
    late_index: int = 0
    late_due_ms: int | None = None

    def dues(self, settings: EventSettings) -> Iterator[int]:
        """Yield when something must be done with this window."""
        if self.final_ms is None:
            yield self.opened_ms + settings.open_limit_ms
            yield self.touched_ms + settings.idle_ms
            if self.moved_on_ms is not None:
                yield self.moved_on_ms + settings.deadline_ms
            return
        yield self.final_ms + settings.lateness_ms
        if self.late_due_ms is not None:
            yield self.late_due_ms

    def pane(self) -> pb.Pane:
        """Return the pane that goes out next."""
        if self.late_index:
            return pb.Pane(kind=pb.LATE, index=self.late_index)
        return pb.Pane(kind=pb.FINAL, index=0)


@dataclass(slots=True)
class EventAttempt:
    """What ASSEMBLE knows of one stream in one attempt.

    Attributes:
        origin: a stream without steps is cut in the order of its log: (position, index) of where the oldest window
            that is kept began, or the next one will, so that a restart cuts alike.
    """

    windows: dict[int, EventWindow] = field(default_factory=dict)
    expired_before: int = 0
    origin: tuple[int, int] = (0, 0)
    read_through: int = 0  # position after the newest batch
