"""What outlives a window of a stream of events: the panes of its newest windows.

Every gauge of a stream is a function of these, so there is nothing else to keep, and reading a window again changes
nothing. The panes are the parts of the machine's memo: a window costs one write, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from infoplane.collector.estimate.join import order_of
from infoplane.wire import infoplane_pb2 as pb

Place = tuple[int, int]  # attempt, window
_PREFIX = "history|"


@dataclass(slots=True)
class EventHistory:
    """The panes of one stream, whole ones only, by (attempt, window).

    Attributes:
        horizon: distinct events looked at, counted from the newest window back.
        spare: windows kept beyond the horizon, so that a late pane of an older window sees what it saw.
    """

    horizon: int
    spare: int
    panes: dict[Place, list[pb.WindowPane]] = field(default_factory=dict)
    _bytes: dict[Place, list[bytes]] = field(default_factory=dict)

    def put(self, panes: list[pb.WindowPane]) -> None:
        """Take in all parts of one window's pane; the greatest pane of a window stays."""
        place = (panes[0].attempt, panes[0].window)
        known = self.panes.get(place)
        if known and order_of(known[0]) >= order_of(panes[0]):
            return
        self.panes[place] = panes
        self._bytes[place] = [pane.SerializeToString(deterministic=True) for pane in panes]
        for gone in self._beyond():
            del self.panes[gone], self._bytes[gone]

    def through(self, attempt: int, window: int) -> list[pb.EventTable]:
        """Return the tables of (attempt, window) and of those before it within the horizon, newest first."""
        tables: list[pb.EventTable] = []
        left = self.horizon
        for place in sorted((p for p in self.panes if p <= (attempt, window)), reverse=True):
            if left <= 0:
                break
            tables += [pane.events for pane in self.panes[place]]
            left -= _rows(self.panes[place])
        return tables

    def all(self) -> Iterator[pb.WindowPane]:
        """Yield every part of every kept window."""
        for place in sorted(self.panes):
            yield from self.panes[place]

    def memo(self, unit: str) -> dict[str, bytes]:
        """Return the parts of the memo that hold this history."""
        return {
            f"{_PREFIX}{unit}|{attempt}|{window}|{part}": data
            for (attempt, window), chunks in self._bytes.items()
            for part, data in enumerate(chunks)
        }

    def _beyond(self) -> list[Place]:
        left, spare, gone = self.horizon, self.spare, []
        for place in sorted(self.panes, reverse=True):
            if left <= 0:
                spare -= 1
                if spare < 0:
                    gone.append(place)
            left -= _rows(self.panes[place])
        return gone


def panes_of_memo(parts: Mapping[str, bytes]) -> Iterator[list[pb.WindowPane]]:
    """Yield the windows that `EventHistory.memo` wrote."""
    kept = [pb.WindowPane.FromString(parts[n]) for n in sorted(parts) if n.startswith(_PREFIX)]
    return whole_panes(kept)


def whole_panes(kept: Iterable[pb.WindowPane]) -> Iterator[list[pb.WindowPane]]:
    """Group the parts of panes by window and yield the whole ones.

    A crash between the writes of two parts leaves a window torn; its panes are then read again from the log.
    """
    windows: dict[tuple[str, int, int], list[pb.WindowPane]] = {}
    for pane in kept:
        windows.setdefault((pane.unit, pane.attempt, pane.window), []).append(pane)
    for panes in windows.values():
        panes.sort(key=lambda pane: pane.part)
        heads = {order_of(pane) for pane in panes}
        if len(heads) == 1 and [pane.part for pane in panes] == list(range(panes[0].parts)):
            yield panes


def _rows(panes: list[pb.WindowPane]) -> int:
    return sum(pane.events.ids.shape[0] if pane.events.ids.shape else 0 for pane in panes)
