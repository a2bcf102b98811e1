"""One window of a run while its units come together, and as long as late panes may correct it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from infoplane.collector.estimate.memory import Held
from infoplane.wire import DecodeError
from infoplane.wire import infoplane_pb2 as pb

MAX_PARTS = 4096
Order = tuple[int, int, int]


def order_of(pane: pb.WindowPane) -> Order:
    """Return how far a pane has come: early < final < late, then index, then how much it holds.

    A restarted ASSEMBLE may send a pane again; the greatest stays, so a repetition changes nothing.
    """
    return (pane.pane.kind, pane.pane.index, pane.present)


@dataclass(slots=True)
class UnitPane:
    """The parts of one unit's pane; they may come in any order."""

    order: Order
    parts: list[pb.WindowPane | None]

    def take(self, pane: pb.WindowPane) -> bool:
        """Take in one part; returns whether the pane is whole now and was not before."""
        was_whole = self.whole
        self.parts[pane.part] = pane
        return self.whole and not was_whole

    @property
    def whole(self) -> bool:
        """Whether all parts are in."""
        return None not in self.parts


@dataclass(slots=True)
class JoinedWindow:
    """What has come in for one window."""

    index: int
    position: int  # of its first pane
    opened_ms: int  # when that pane came
    units: list[str] = field(default_factory=list)  # that panes have listed
    whole: dict[str, UnitPane] = field(default_factory=dict)
    gathering: dict[str, UnitPane] = field(default_factory=dict)
    closed_ms: int | None = None
    late_index: int = 0
    after: Held | None = None  # what estimators remember after the window, once it is closed

    def add(self, pane: pb.WindowPane) -> bool:
        """Take in one part; returns whether a unit's pane became whole, or was replaced by a greater one.

        Raises:
            DecodeError: the part numbers contradict themselves.
        """
        if not (pane.part < pane.parts <= MAX_PARTS):
            raise DecodeError("content", f"part {pane.part} of {pane.parts}")
        order = order_of(pane)
        if pane.unit in self.whole and order <= self.whole[pane.unit].order:
            return False
        unit = self.gathering.get(pane.unit)
        if unit is None or order > unit.order:
            unit = UnitPane(order, [None] * pane.parts)
            self.gathering[pane.unit] = unit
        elif order < unit.order:
            return False
        if len(unit.parts) != pane.parts:
            raise DecodeError("content", f"{pane.parts} parts, earlier {len(unit.parts)}")
        if not unit.take(pane):
            return False
        self.whole[pane.unit] = self.gathering.pop(pane.unit)
        self.units.extend(name for name in pane.units if name not in self.units)
        return True

    @property
    def closed(self) -> bool:
        """Whether its results have gone out; late panes may still correct them."""
        return self.closed_ms is not None

    @property
    def ready(self) -> bool:
        """Whether every listed unit has a whole pane."""
        return bool(self.whole) and all(name in self.whole for name in self.units)

    def panes(self) -> Iterator[pb.WindowPane]:
        """All parts of all whole panes, units in order of name."""
        for name in sorted(self.whole):
            yield from (part for part in self.whole[name].parts if part is not None)

    def missing(self) -> list[str]:
        """Listed units without a whole pane."""
        return sorted(set(self.units) - set(self.whole))


@dataclass(slots=True)
class RunAttempt:
    """The windows of one attempt of the run."""

    windows: dict[int, JoinedWindow] = field(default_factory=dict)
    closed_through: int = -1  # newest closed window
    expired_before: int = 0  # windows below this one are gone for good
    memory: Held = field(default_factory=dict)  # after those

    def memory_before(self, index: int) -> Held:
        """Return what estimators remember when window `index` is computed."""
        earlier = [w for w in self.windows.values() if w.index < index and w.after is not None]
        newest = max(earlier, key=lambda window: window.index, default=None)
        if newest is None or newest.after is None:
            return self.memory
        return newest.after

    def forget(self, index: int) -> None:
        """Drop a window for good; what it left stays."""
        window = self.windows.pop(index)
        if window.after is not None:
            self.memory = window.after
        self.expired_before = max(self.expired_before, index + 1)
