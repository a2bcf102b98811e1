"""The panels of the page: one chart each, updated in place, readable by machines and screen readers."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from infoplane.exporter.page.charts import Chart, Curves
from infoplane.exporter.page.grid import grid_of
from infoplane.exporter.page.heatmap import heatmap_options
from infoplane.exporter.page.lines import line_options
from infoplane.exporter.page.marks import Mark


class Panel:
    """One chart with its title, a note, and the names of its rows hidden in the DOM.

    The element carries `data-chart`, `data-points` (number of windows) and `data-age-seconds` (age of its newest
    point by the job's clock); the list carries `data-taps`, one `li` a row.
    """

    def __init__(self, chart: Chart, width: str) -> None:
        self.chart = chart
        self._rows: tuple[str, ...] = ()
        self._newest_clock_s: float | None = None
        with ui.element("section").classes(f"panel {width}") as self._box:
            self._box.props(f'data-chart="{chart.id}" aria-label="{chart.title}"')
            with ui.element("div").classes("title").tooltip(chart.about):
                ui.label(chart.title).style("display: inline")
                self._unit = ui.label(f" · {chart.unit}").style("display: inline; color: #8a94a3")
            self._note = ui.label("").classes("note")
            self._names = ui.element("ul").classes("sr-only")
            self._figure = ui.echart({"series": []})
            self._nothing = ui.label("no data yet").classes("nothing")

    def show(
        self,
        run: str,
        curves: Curves,
        marks: list[Mark],
        steps: tuple[int, int] | None,
        changes: bool,
    ) -> None:
        """Draw the curves of `run`."""
        points = [point for one in curves.values() for point in one]
        self._newest_clock_s = max((point.clock_s for point in points), default=None)
        self._box.props(f"data-points={len({point.window for point in points})}")
        self._nothing.set_visibility(not points)
        self._list(tuple(curves))
        self._draw(self._options(run, curves, marks, steps, changes))

    def tell_age(self, now_s: float) -> None:
        """Refresh the age of the newest point."""
        if self._newest_clock_s is not None:
            self._box.props(f'data-age-seconds="{max(now_s - self._newest_clock_s, 0):.1f}"')

    def _options(
        self,
        run: str,
        curves: Curves,
        marks: list[Mark],
        steps: tuple[int, int] | None,
        changes: bool,
    ) -> dict[str, Any]:
        if self.chart.kind != "heatmap":
            self._note.set_text(self.chart.about)
            return line_options(self.chart, curves, marks, run, steps)
        grid = grid_of(curves)
        self._unit.set_text(" · robust z against the 24 windows before" if changes else f" · {self.chart.unit}")
        saturated = f"{grid.num_saturated} of {len(grid.rows)} at their ceiling. "
        self._note.set_text((saturated if grid.num_saturated else "") + self.chart.about)
        return heatmap_options(self.chart, grid, marks, run, changes=changes)

    def _draw(self, options: dict[str, Any]) -> None:
        self._figure.options.clear()
        self._figure.options.update(options)
        self._figure.update()

    def _list(self, rows: tuple[str, ...]) -> None:
        if rows == self._rows:
            return
        self._rows = rows
        self._names.clear()
        self._names.props(f'data-taps="{" ".join(rows)}" aria-label="rows"')
        with self._names:
            for row in rows:
                with ui.element("li"):
                    ui.label(row)
