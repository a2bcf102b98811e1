"""Everything the exporter knows about one run. Not thread-safe: the store holds the lock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from infoplane.collector.interventions import MODES, STAGES, Intervention, word
from infoplane.exporter.admission import CAP, refusal
from infoplane.exporter.history import History
from infoplane.exporter.points import Point, SeriesId
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.actions import ACTIONS

MAX_VERDICTS: Final = 1000
MAX_INTERVENTIONS: Final = 1000
# A tap that was switched off stops producing while its run goes on. No cadence is this long.
STALE_WINDOWS: Final = 32


@dataclass(slots=True)
class Series:
    """The newest point of one series, and its past."""

    newest: Point
    history: History


@dataclass(slots=True)
class Run:
    """One run: its series, verdicts and interventions, and when it was last heard of (Unix seconds)."""

    name: str
    series_cap: int
    history_windows: int
    heard_s: float = 0.0
    revision: int = 0
    newest: Point | None = None
    series: dict[SeriesId, Series] = field(default_factory=dict)
    rejected: Counter[str] = field(default_factory=Counter)
    verdicts: dict[str, pb.Verdict] = field(default_factory=dict)
    verdict_counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    interventions: dict[str, Intervention] = field(default_factory=dict)
    intervention_counts: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def add(self, series: SeriesId, point: Point) -> bool:
        """Take in one point; return whether it is held (a refused one is counted)."""
        held = self.series.get(series)
        if held is None:
            reason = refusal(series) or (CAP if len(self.series) >= self.series_cap else "")
            if reason:
                self.rejected[reason] += 1
                return False
            held = self.series[series] = Series(point, History(self.history_windows))
        elif point.order >= held.newest.order:
            held.newest = point
        if self.newest is None or point.order >= self.newest.order:
            self.newest = point
        if held.history.add(point):
            self.revision += 1
        return True

    def add_verdict(self, verdict: pb.Verdict) -> None:
        """Take in one verdict; one that is known by its id is replaced and not counted again."""
        if verdict.id not in self.verdicts:
            self.verdict_counts[verdict.detector, verdict.severity, verdict.metric] += 1
        self.verdicts[verdict.id] = verdict
        self.revision += 1
        while len(self.verdicts) > MAX_VERDICTS:
            del self.verdicts[min(self.verdicts, key=lambda id_: self.verdicts[id_].clock_ms)]

    def add_audit(self, entry: pb.AuditEntry) -> None:
        """Take in one line of the audit trail; every stage of an intervention counts once, whatever ranks say it.

        A line without an id is a rank's refusal of something that no controller of its has signed: it is counted only,
        since somebody may repeat that at will.
        """
        kind = (word(entry.action, ACTIONS), word(entry.mode, MODES), word(entry.stage, STAGES))
        if not entry.id:
            self.intervention_counts[kind] += 1
            return
        known = self.interventions.setdefault(entry.id, Intervention(self.name, entry.id))
        self.intervention_counts[kind] += known.add(entry)
        self.revision += 1
        while len(self.interventions) > MAX_INTERVENTIONS:
            del self.interventions[
                min(self.interventions, key=lambda id_: self.interventions[id_].head.clock_ms)
            ]

    def current(self) -> list[tuple[SeriesId, Point]]:
        """Return the newest points that still speak for the run: of its attempt, and not long overtaken."""
        if self.newest is None:
            return []
        attempt, oldest = self.newest.attempt, self.newest.window - STALE_WINDOWS
        return [
            (id_, one.newest)
            for id_, one in self.series.items()
            if one.newest.attempt == attempt and one.newest.window >= oldest
        ]
