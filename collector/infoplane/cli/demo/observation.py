"""What the topics say about one run, gathered while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import Message

from infoplane.collector.interventions import Intervention
from infoplane.wire import infoplane_pb2 as pb

ENTROPY: Final = "von_neumann_entropy_nats"
OVERHEAD: Final = "agent_overhead_ratio"
SENT: Final = "agent_sent_records_total"
DROPPED: Final = "agent_dropped_records_total"
LOSS_STREAM: Final = "loss"


@dataclass(slots=True)
class UnitWindow:
    """The last pane of one unit's window."""

    order: tuple[int, int]
    expected: int
    present: int


@dataclass(slots=True)
class Observation:
    """Gathers panes, results, verdicts and the audit trail of `run`; messages of other runs are passed over.

    Attributes:
        windows: window -> unit -> its last pane.
        units: what the run's panes list.
        series: (metric, labels) -> newest result.
        closed: windows with results of final or late panes.
        ranks: number of ranks that the expected records of a window imply.
        verdicts: in the order in which they came.
        interventions: by id, in the order in which they were proposed.
    """

    run: str
    windows: dict[int, dict[str, UnitWindow]] = field(default_factory=dict)
    units: set[str] = field(default_factory=set)
    series: dict[tuple[str, tuple[tuple[str, str], ...]], pb.Result] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)
    ranks: int = 0
    verdicts: list[pb.Verdict] = field(default_factory=list)
    interventions: dict[str, Intervention] = field(default_factory=dict)
    _verdict_ids: set[str] = field(default_factory=set)

    def add(self, message: Message | None) -> None:
        """Take in one message."""
        if message is None or getattr(message, "run", "") != self.run:
            return
        if isinstance(message, pb.WindowPane):
            self._add_pane(message)
        elif isinstance(message, pb.Result):
            self._add_result(message)
        elif isinstance(message, pb.Verdict) and message.id not in self._verdict_ids:
            self._verdict_ids.add(message.id)
            self.verdicts.append(message)
        elif isinstance(message, pb.AuditEntry) and message.id:
            new = Intervention(message.run, message.id)
            self.interventions.setdefault(message.id, new).add(message)

    def _add_pane(self, pane: pb.WindowPane) -> None:
        if pane.pane.kind not in (pb.FINAL, pb.LATE):
            return
        self.units.update(pane.units)
        order = (pane.pane.kind, pane.pane.index)
        units = self.windows.setdefault(pane.window, {})
        known = units.get(pane.unit)
        if known is None or order > known.order:
            units[pane.unit] = UnitWindow(order, pane.expected, pane.present)
        if pane.rule.width:
            self.ranks = max(self.ranks, pane.expected // pane.rule.width)

    def _add_result(self, result: pb.Result) -> None:
        if result.pane.kind not in (pb.FINAL, pb.LATE):
            return
        self.closed.add(result.window)
        labels = tuple((label.name, label.value) for label in result.labels)
        known = self.series.get((result.metric, labels))
        if known is None or _order(result) >= _order(known):
            self.series[(result.metric, labels)] = result

    # ------------------------------------------------------------ questions

    @property
    def final(self) -> list[int]:
        """Return the windows of which every unit has a final pane."""
        return sorted(w for w, units in self.windows.items() if units.keys() >= self.units)

    @property
    def complete(self) -> list[int]:
        """Return the final windows in which no unit misses a record."""
        return [
            window
            for window in self.final
            if all(unit.present == unit.expected for unit in self.windows[window].values())
        ]

    @property
    def sent(self) -> Intervention | None:
        """Return the first intervention that was more than a proposal, None without one."""
        return next((one for one in self.interventions.values() if one.was_sent), None)

    def is_acting(self, ranks: int) -> bool:
        """Whether a command is on its way, and one of `ranks` has not said yet what became of it."""
        sent = self.sent
        if sent is None or sent.stage in ("refused", "failed"):
            return False
        return len(sent.applied_steps) < ranks

    def newest(self, metric: str, **labels: str) -> list[pb.Result]:
        """Return the newest defined results of `metric` whose labels include `labels`."""
        return [
            result
            for (name, found), result in self.series.items()
            if name == metric and not result.undefined and set(labels.items()) <= set(found)
        ]

    def total(self, metric: str) -> float:
        """Return the sum over labels of the newest values of a counter; 0 without any."""
        return sum(result.value for result in self.newest(metric))

    def value(self, metric: str, **labels: str) -> float | None:
        """Return the newest value of the first matching series, None without one."""
        found = self.newest(metric, **labels)
        return found[0].value if found else None

    def entropies(self) -> list[tuple[str, float]]:
        """Return (tap, newest von Neumann entropy in nats) of the block outputs, in order of depth."""
        found = [
            ({label.name: label.value for label in result.labels}["tap"], result.value)
            for result in self.newest(ENTROPY)
        ]
        return sorted((tap, value) for tap, value in found if tap.endswith("/block"))


def _order(result: pb.Result) -> tuple[int, int, int, int]:
    return (result.attempt, result.window, result.pane.kind, result.pane.index)
