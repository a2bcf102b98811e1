"""Everything that the page of one run shows, computed once for all visitors."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any, Final

from infoplane.collector.interventions import Intervention
from infoplane.exporter.page.charts import BY_ID, Chart, Curves
from infoplane.exporter.page.grid import PAST_WINDOWS, grid_of
from infoplane.exporter.page.heatmap import heatmap_options
from infoplane.exporter.page.lines import line_options
from infoplane.exporter.page.marks import ActionMark, Mark, action_marks_of, marks_of
from infoplane.exporter.page.status import (
    Tile,
    completeness_tile,
    newest_tile,
    overhead_tile,
    window_interval_s,
)
from infoplane.exporter.store import Store
from infoplane.wire import infoplane_pb2 as pb

_REST: Final = 4.0  # a picture that took a second is not painted again for this many seconds


@dataclass(frozen=True, slots=True)
class Drawing:
    """One chart: its ECharts options and what its panel says in words."""

    options: dict[str, Any]
    rows: tuple[str, ...]
    num_windows: int
    newest_clock_s: float | None
    note: str
    unit: str


@dataclass(frozen=True, slots=True)
class Picture:
    """The drawings by chart id, the tiles by key, verdicts, interventions and the usual seconds between windows."""

    revision: int
    drawings: dict[str, Drawing]
    tiles: dict[str, Tile]
    verdicts: list[pb.Verdict]
    interventions: list[Intervention]
    interval_s: float | None


class Painter:
    """Paints runs; thread-safe. Visitors of one run share a picture: 34 layers x 400 windows cost about 0.3 s."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._pictures: dict[tuple[str, bool], tuple[Picture, float]] = {}

    def paint(self, run: str, changes: bool) -> Picture:
        """Return the picture of a run, at most a few paintings old while it changes fast."""
        with self._lock:
            snapshot = self._store.snapshot(run)
            revision = snapshot.revision if snapshot else -1
            known, rest_until = self._pictures.get((run, changes), (None, 0.0))
            begun = time.monotonic()
            if known is not None and (known.revision == revision or begun < rest_until):
                return known
            picture = self._paint(run, revision, changes)
            cost = time.monotonic() - begun
            self._pictures[run, changes] = (picture, begun + (1 + _REST) * cost)
            while len(self._pictures) > 2 * len(BY_ID):
                del self._pictures[next(iter(self._pictures))]
            return picture

    def _paint(self, run: str, revision: int, changes: bool) -> Picture:
        verdicts = self._store.verdicts(run)
        curves = {id_: chart.curves(self._store, run) for id_, chart in BY_ID.items()}
        interventions = self._store.interventions(run)
        steps = _steps(curves)
        marks, actions = marks_of(verdicts), action_marks_of(interventions)
        return Picture(
            revision,
            {
                id_: _draw(chart, curves[id_], marks, actions, run, steps, changes)
                for id_, chart in BY_ID.items()
            },
            {
                "completeness": completeness_tile(curves["completeness"]),
                "loss": newest_tile(curves["loss"]),
                "tokens": newest_tile(_only(curves["tokens"], "policy entropy")),
                "overhead": overhead_tile(curves["overhead"]),
                "verdicts": Tile(str(len(verdicts))),
            },
            verdicts,
            interventions,
            window_interval_s(curves["completeness"] or curves["entropy"]),
        )


def _draw(
    chart: Chart,
    curves: Curves,
    marks: list[Mark],
    actions: list[ActionMark],
    run: str,
    steps: tuple[int, int] | None,
    changes: bool,
) -> Drawing:
    points = [point for one in curves.values() for point in one]
    note, unit = chart.about, chart.unit
    if chart.kind == "heatmap":
        grid = grid_of(curves)
        options = heatmap_options(chart, grid, marks, run, changes=changes, actions=actions)
        unit = f"robust z, {PAST_WINDOWS} windows back" if changes else unit
        if grid.num_saturated:
            note = f"{grid.num_saturated} of {len(grid.rows)} at their ceiling. {note}"
    else:
        options = line_options(chart, curves, marks, run, steps, actions)
        note = _worst(curves) if chart.kind == "share" else note
    return Drawing(
        options,
        tuple(curves),
        len({point.window for point in points}),
        max((point.clock_s for point in points), default=None),
        note,
        unit,
    )


def _worst(curves: Curves) -> str:
    newest = {name: points[-1].value for name, points in curves.items() if points}
    if not newest:
        return ""
    name = min(newest, key=newest.__getitem__)
    if newest[name] >= 1:
        return f"All {len(newest)} units are complete."
    return f"Worst now: {name}, {100 * newest[name]:.0f} %."


def _only(curves: Curves, name: str) -> Curves:
    return {name: curves[name]} if name in curves else {}


def _steps(curves: dict[str, Curves]) -> tuple[int, int] | None:
    found = [
        point.last_step
        for chart in curves.values()
        for points in chart.values()
        for point in (points[:1] + points[-1:])
    ]
    return (min(found), max(found)) if found else None
