"""The newest estimate of every series of every run, the page's history, verdicts and interventions, in memory.

Nothing here is the truth: after a restart the topics fill it again. Adding is idempotent and independent of order,
so reading a topic twice, or `latest` and `results` side by side, gives the same store.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from infoplane.collector.interventions import Intervention
from infoplane.exporter.points import Point, SeriesId, point_of, series_of
from infoplane.exporter.run import Run
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.errors import ConfigurationError, DecodeError
from infoplane.wire.topics import check_run_name

MAX_RUNS: Final = 64


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a scrape or a page needs to know about one run, taken at one moment. Times are Unix seconds."""

    run: str
    live: bool
    heard_s: float
    revision: int
    newest: Point | None
    series: Sequence[tuple[SeriesId, Point]]
    num_series: int
    rejected: dict[str, int]
    verdict_counts: dict[tuple[str, str, str], int]
    intervention_counts: dict[tuple[str, str, str], int]


class Store:
    """Thread-safe. Every call holds one lock for microseconds (a snapshot of 10k series: about 5 ms).

    Args:
        ttl_s: a run without news for this long is no longer live.
        series_cap: most series held per run.
        history_windows: most windows held per series.
        clock: wall time, Unix seconds.
    """

    def __init__(
        self,
        *,
        ttl_s: float,
        series_cap: int,
        history_windows: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ttl_s = ttl_s
        self._series_cap = series_cap
        self._history_windows = history_windows
        self._clock = clock
        self._lock = threading.Lock()
        self._runs: dict[str, Run] = {}

    def now_s(self) -> float:
        """Return the wall time that the store goes by, Unix seconds."""
        return self._clock()

    def add(self, result: pb.Result, arrived_s: float | None = None) -> bool:
        """Take in one result; return whether its series is held.

        Args:
            result: the message.
            arrived_s: when it reached the topic; now, if not given. A restarted exporter reads old messages, and
                their run must not look alive because of that. A time ahead of the clock counts as now.

        Raises:
            DecodeError: the run's name is not one.
        """
        point, series = point_of(result), series_of(result)
        with self._lock:
            run = self._heard(result.run, arrived_s)
            return run.add(series, point)

    def add_verdict(self, verdict: pb.Verdict, arrived_s: float | None = None) -> None:
        """Take in one verdict.

        Raises:
            DecodeError: the run's name is not one, or the verdict has no id.
        """
        if not verdict.id:
            raise DecodeError("content", "a verdict without id")
        with self._lock:
            self._heard(verdict.run, arrived_s).add_verdict(verdict)

    def add_audit(self, entry: pb.AuditEntry, arrived_s: float | None = None) -> None:
        """Take in one line of the audit trail.

        Raises:
            DecodeError: the run's name is not one.
        """
        with self._lock:
            self._heard(entry.run, arrived_s).add_audit(entry)

    def _heard(self, name: str, arrived_s: float | None) -> Run:
        now = self._clock()
        arrived = now if arrived_s is None else min(arrived_s, now)
        run = self._runs.get(name)
        if run is None:
            run = self._begin(name)
        run.heard_s = max(run.heard_s, arrived)
        return run

    def _begin(self, name: str) -> Run:
        try:
            check_run_name(name)
        except ConfigurationError as error:
            raise DecodeError("content", str(error)) from None
        if len(self._runs) >= MAX_RUNS:
            del self._runs[min(self._runs, key=lambda known: self._runs[known].heard_s)]
        run = self._runs[name] = Run(name, self._series_cap, self._history_windows)
        return run

    def snapshots(self) -> list[Snapshot]:
        """Return all runs, the one heard of last first. Ended ones stay visible here, marked as not live."""
        with self._lock:
            found = [self._snapshot(run) for run in self._runs.values()]
        return sorted(found, key=lambda one: (-one.heard_s, one.run))

    def snapshot(self, run: str) -> Snapshot | None:
        """Return one run, None if it is unknown."""
        with self._lock:
            known = self._runs.get(run)
            return None if known is None else self._snapshot(known)

    def _snapshot(self, run: Run) -> Snapshot:
        return Snapshot(
            run=run.name,
            live=self._clock() - run.heard_s < self._ttl_s,
            heard_s=run.heard_s,
            revision=run.revision,
            newest=run.newest,
            series=run.current(),
            num_series=len(run.series),
            rejected=dict(run.rejected),
            verdict_counts=dict(run.verdict_counts),
            intervention_counts=dict(run.intervention_counts),
        )

    def history(self, run: str, metric: str) -> dict[SeriesId, list[Point]]:
        """Return the points of every series of one metric, by window; empty if there are none."""
        with self._lock:
            known = self._runs.get(run)
            if known is None:
                return {}
            return {
                id_: one.history.points()
                for id_, one in known.series.items()
                if id_.metric == metric
            }

    def verdicts(self, run: str) -> list[pb.Verdict]:
        """Return the verdicts of a run, the newest first."""
        with self._lock:
            known = self._runs.get(run)
            found = list(known.verdicts.values()) if known else []
        return sorted(found, key=lambda v: (v.attempt, v.detected_step, v.clock_ms), reverse=True)

    def interventions(self, run: str) -> list[Intervention]:
        """Return copies of what was done to a run, the newest first."""
        with self._lock:
            known = self._runs.get(run)
            found = (
                [
                    Intervention(one.run, one.id, dict(one.entries))
                    for one in known.interventions.values()
                ]
                if known
                else []
            )
        return sorted(found, key=lambda one: (one.head.clock_ms, one.id), reverse=True)
