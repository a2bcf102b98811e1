"""The page of one visitor: header, banner, charts and verdicts of the chosen run, refreshed every second."""

from __future__ import annotations

from nicegui import ui

from infoplane.exporter.metrics import Reader
from infoplane.exporter.page.charts import BY_ID, HEATMAPS, LINES, Curves
from infoplane.exporter.page.marks import marks_of
from infoplane.exporter.page.panels import Panel
from infoplane.exporter.page.status import (
    Banner,
    Tile,
    age_tile,
    banner_of,
    completeness_tile,
    newest_tile,
    overhead_tile,
    stale_after_s,
    window_interval_s,
)
from infoplane.exporter.page.verdict_list import VerdictList
from infoplane.exporter.store import Snapshot, Store
from infoplane.wire import infoplane_pb2 as pb

_TILES = {
    "step": "newest step",
    "window": "window",
    "age": "newest window",
    "completeness": "worst completeness",
    "loss": "loss",
    "tokens": "policy entropy",
    "overhead": "agent overhead",
    "verdicts": "verdicts",
}
_NEWEST = "newest run"


class Board:
    """Builds the elements once and then only changes what changed.

    Args:
        store: what is shown.
        reader: whether it is still being filled.
        run: the run to show; empty follows the run that was heard of last.
    """

    def __init__(self, store: Store, reader: Reader, run: str) -> None:
        self._store = store
        self._reader = reader
        self._wanted = run
        self._drawn: tuple[str, int, bool] | None = None
        self._interval_s: float | None = None
        self._changes = False
        with ui.element("main").classes("page"):
            self._build_head()
            self._build_banner()
            with ui.element("div").classes("board"):
                self._panels = [Panel(chart, "wide") for chart in HEATMAPS]
                self._panels += [Panel(chart, "narrow") for chart in LINES]
                self._verdict_list = VerdictList("half")

    def _build_head(self) -> None:
        self._values: dict[str, ui.label] = {}
        self._boxes: dict[str, ui.element] = {}
        with ui.element("header").classes("head"):
            with ui.element("div").classes("brand"):
                ui.html("<b>infoplane</b>", sanitize=False)
                ui.label("live information plane").style("font-size: 11px; color: #8a94a3")
            self._select = (
                ui.select([_NEWEST], value=self._wanted or _NEWEST, on_change=self._choose)
                .props('dense outlined dark options-dense aria-label="run"')
                .classes("run-select")
            )
            self._mode = (
                ui.toggle({False: "values", True: "changes"}, value=False, on_change=self._turn)
                .props("dense unelevated no-caps")
                .classes("mode")
            )
            for key, name in _TILES.items():
                with ui.element("div").classes("tile").props(f'data-tile="{key}"') as box:
                    ui.label(name).classes("name")
                    self._values[key] = ui.label("–").classes("value")
                self._boxes[key] = box

    def _build_banner(self) -> None:
        with ui.element("div").classes("banner").props('role="status" data-banner=""') as box:
            self._banner = box
            self._word = ui.label("").classes("word")
            self._text = ui.label("").classes("text")
            self._since = ui.label("").classes("since")

    def _choose(self) -> None:
        self._wanted = "" if self._select.value == _NEWEST else str(self._select.value)
        self.refresh()

    def _turn(self) -> None:
        self._changes = bool(self._mode.value)
        self.refresh()

    def refresh(self) -> None:
        """Bring the page up to date."""
        snapshots = self._store.snapshots()
        self._offer([one.run for one in snapshots])
        snapshot = self._shown(snapshots)
        verdicts = self._store.verdicts(snapshot.run) if snapshot else []
        if snapshot is not None:
            self._draw(snapshot, verdicts)
            self._tell(snapshot)
        self._announce(snapshot, verdicts)

    def _offer(self, runs: list[str]) -> None:
        options = [_NEWEST, *runs]
        if self._wanted and self._wanted not in runs:
            options.append(self._wanted)
        if options != self._select.options:
            self._select.set_options(options)

    def _shown(self, snapshots: list[Snapshot]) -> Snapshot | None:
        if self._wanted:
            return next((one for one in snapshots if one.run == self._wanted), None)
        return snapshots[0] if snapshots else None

    def _draw(self, snapshot: Snapshot, verdicts: list[pb.Verdict]) -> None:
        key = (snapshot.run, snapshot.revision, self._changes)
        if key == self._drawn:
            return
        self._drawn = key
        curves = {id_: chart.curves(self._store, snapshot.run) for id_, chart in BY_ID.items()}
        steps, marks = _steps(curves), marks_of(verdicts)
        for panel in self._panels:
            panel.show(snapshot.run, curves[panel.chart.id], marks, steps, self._changes)
        self._verdict_list.show(verdicts)
        self._interval_s = window_interval_s(curves["completeness"] or curves["entropy"])
        self._tile("completeness", completeness_tile(curves["completeness"]))
        self._tile("loss", newest_tile(curves["loss"]))
        self._tile("tokens", newest_tile(_only(curves["tokens"], "policy entropy")))
        self._tile("overhead", overhead_tile(curves["overhead"]))
        self._tile("verdicts", Tile(str(len(verdicts))))

    def _tell(self, snapshot: Snapshot) -> None:
        newest = snapshot.newest
        if newest is None:
            return
        now_s = self._store.now_s()
        for panel in self._panels:
            panel.tell_age(now_s)
        self._tile("step", Tile(f"{newest.last_step:,}"))
        self._tile("window", Tile(f"{newest.window:,}"))
        self._tile("age", age_tile(now_s - newest.clock_s, stale_after_s(self._interval_s)))

    def _announce(self, snapshot: Snapshot | None, verdicts: list[pb.Verdict]) -> None:
        newest = snapshot.newest if snapshot else None
        age_s = self._store.now_s() - newest.clock_s if newest else None
        stale_s = stale_after_s(self._interval_s)
        banner = banner_of(self._reader.status(), snapshot, verdicts, age_s, stale_s)
        self._show_banner(banner)

    def _show_banner(self, banner: Banner) -> None:
        self._banner.classes(replace=f"banner {banner.judgement}")
        self._word.set_text(banner.word)
        self._text.set_text(banner.text)
        self._since.set_text(banner.since)

    def _tile(self, key: str, tile: Tile) -> None:
        self._values[key].set_text(tile.value)
        self._boxes[key].classes(replace=f"tile {tile.judgement}")


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
