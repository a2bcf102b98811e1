"""One window of one unit while it is open or may still be corrected."""

from __future__ import annotations

from dataclasses import dataclass, field

from infoplane.collector.assemble.bodies import Body
from infoplane.wire import DecodeError
from infoplane.wire import infoplane_pb2 as pb


@dataclass(slots=True)
class Window:
    """What has come in for one window, and which of its panes have gone out.

    Times are the clock of the unit's key, milliseconds.
    """

    index: int
    first_step: int
    last_step: int
    position: int  # of the first record: a restart reads from here
    opened_ms: int
    body: Body | None = None
    seen: set[tuple[int, int]] = field(default_factory=set)  # (sender, step)
    deadline_ms: int | None = None  # set once a sender has moved on
    final_ms: int | None = None
    late_index: int = 0
    late_due_ms: int | None = None  # a correction waits to be sent
    expected: int = 0
    expected_version: int = -1  # of the roster that `expected` was counted with

    def add(self, sender: int, step: int, body: Body) -> bool:
        """Take in one record; returns False for a duplicate.

        Raises:
            DecodeError: the body does not fit what the window holds.
        """
        if (sender, step) in self.seen:
            return False
        if self.body is None:
            self.body = body
        elif not self.body.agrees_with(body):
            raise DecodeError("content", "sketch does not fit the window's earlier sketches")
        else:
            self.body.add(body)
        self.seen.add((sender, step))
        return True

    @property
    def complete(self) -> bool:
        """Whether every expected pair is present, as last counted."""
        return len(self.seen) >= self.expected

    def move_on(self, due_ms: int) -> None:
        """Note that a sender is beyond this window: it closes at `due_ms` at the latest."""
        if self.deadline_ms is None:
            self.deadline_ms = due_ms

    def pane(self) -> pb.Pane:
        """Return the pane that goes out next."""
        if self.late_index:
            return pb.Pane(kind=pb.LATE, index=self.late_index)
        return pb.Pane(kind=pb.FINAL, index=0)
