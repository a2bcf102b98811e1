"""The page of one visitor: header, banner, charts and verdicts of the chosen run, refreshed every second."""

from __future__ import annotations

from nicegui import run as threads
from nicegui import ui

from infoplane.exporter.metrics import Reader
from infoplane.exporter.page.charts import HEATMAPS, LINES
from infoplane.exporter.page.intervention_list import InterventionList
from infoplane.exporter.page.panels import Panel
from infoplane.exporter.page.picture import Painter, Picture
from infoplane.exporter.page.status import NOTHING, Banner, Tile, age_tile, banner_of, stale_after_s
from infoplane.exporter.page.verdict_list import VerdictList
from infoplane.exporter.store import Snapshot, Store

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


class Board:
    """Builds the elements once and then only changes what changed.

    Args:
        store: what is shown.
        painter: paints it.
        reader: whether it is still being filled.
        run: the run to show; empty follows the run that was heard of last.
    """

    def __init__(self, store: Store, painter: Painter, reader: Reader, run: str) -> None:
        self._store = store
        self._painter = painter
        self._reader = reader
        self._wanted = run
        self._picture: Picture | None = None
        self._changes = False
        with ui.element("main").classes("page"):
            self._build_head()
            self._build_banner()
            with ui.element("div").classes("board"):
                self._panels = [Panel(chart, "wide") for chart in HEATMAPS]
                self._panels += [Panel(chart, "narrow") for chart in LINES]
                self._verdict_list = VerdictList("half")
                self._intervention_list = InterventionList("full")

    def _build_head(self) -> None:
        self._values: dict[str, ui.label] = {}
        self._boxes: dict[str, ui.element] = {}
        with ui.element("header").classes("head"):
            with ui.element("div").classes("brand"):
                ui.label("infoplane").classes("name")
                ui.label("live information plane")
            self._select = (
                ui.select({"": "no run yet"}, value="", on_change=self._choose)
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
                    self._values[key] = ui.label(NOTHING).classes("value")
                self._boxes[key] = box

    def _build_banner(self) -> None:
        with ui.element("div").classes("banner").props('role="status" data-banner=""') as box:
            self._banner = box
            self._word = ui.label("").classes("word")
            self._text = ui.label("").classes("text")
            self._since = ui.label("").classes("since")

    async def _choose(self) -> None:
        self._wanted = str(self._select.value or "")
        await self.refresh()

    async def _turn(self) -> None:
        self._changes = bool(self._mode.value)
        await self.refresh()

    async def refresh(self) -> None:
        """Bring the page up to date; painting happens in a thread, so that other visitors do not wait."""
        snapshots = self._store.snapshots()
        self._offer(snapshots)
        snapshot = self._shown(snapshots)
        picture = None
        if snapshot is not None:
            picture = await threads.io_bound(self._painter.paint, snapshot.run, self._changes)
        if picture is not self._picture and picture is not None:
            self._draw(picture)
        self._picture = picture
        self._tell(snapshot)

    def _offer(self, snapshots: list[Snapshot]) -> None:
        newest = f"newest: {snapshots[0].run}" if snapshots else "no run yet"
        options = {"": newest, self._wanted: self._wanted} if self._wanted else {"": newest}
        options |= {one.run: one.run if one.live else f"{one.run} (ended)" for one in snapshots}
        if options != self._select.options:
            self._select.set_options(options, value=self._wanted)

    def _shown(self, snapshots: list[Snapshot]) -> Snapshot | None:
        if self._wanted:
            return next((one for one in snapshots if one.run == self._wanted), None)
        return snapshots[0] if snapshots else None

    def _draw(self, picture: Picture) -> None:
        for panel in self._panels:
            panel.show(picture.drawings[panel.chart.id])
        self._verdict_list.show(picture.verdicts)
        self._intervention_list.show(picture.interventions)
        for key, tile in picture.tiles.items():
            self._tile(key, tile)

    def _tell(self, snapshot: Snapshot | None) -> None:
        """Say what changes with every second: ages and the banner."""
        newest = snapshot.newest if snapshot else None
        now_s = self._store.now_s()
        age_s = now_s - newest.clock_s if newest else None
        stale_s = stale_after_s(self._picture.interval_s if self._picture else None)
        verdicts = self._picture.verdicts if self._picture else []
        self._show_banner(banner_of(self._reader.status(), snapshot, verdicts, age_s, stale_s))
        if newest is None or age_s is None:
            return
        for panel in self._panels:
            panel.tell_age(now_s)
        self._tile("step", Tile(f"{newest.last_step:,}"))
        self._tile("window", Tile(f"{newest.window:,}"))
        self._tile("age", age_tile(age_s, stale_s))

    def _show_banner(self, banner: Banner) -> None:
        self._banner.classes(replace=f"banner {banner.judgement}")
        self._word.set_text(banner.word)
        self._text.set_text(banner.text)
        self._since.set_text(banner.since)

    def _tile(self, key: str, tile: Tile) -> None:
        self._values[key].set_text(tile.value)
        self._boxes[key].classes(replace=f"tile {tile.judgement}")
