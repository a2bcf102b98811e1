"""The panels of the page: one chart each, updated in place, readable by machines and screen readers."""

from __future__ import annotations

from nicegui import ui

from infoplane.exporter.page.charts import Chart
from infoplane.exporter.page.picture import Drawing


class Panel:
    """One chart with its title, a note, and the names of its rows hidden in the DOM.

    The element carries `data-chart`, `data-points` (number of windows) and `data-age-seconds` (age of its newest
    point by the job's clock); the list carries `data-taps`, one `li` a row.
    """

    def __init__(self, chart: Chart, width: str) -> None:
        self.chart = chart
        self._drawing: Drawing | None = None
        self._rows: tuple[str, ...] = ()
        with ui.element("section").classes(f"panel {width}") as self._box:
            self._box.props(f'data-chart="{chart.id}" aria-label="{chart.title}"')
            with ui.element("div").classes("title"):
                ui.label(chart.title).classes("inline")
                self._unit = ui.label(f" · {chart.unit}").classes("inline muted")
            self._note = ui.label(chart.about).classes("note")
            self._names = ui.element("ul").classes("sr-only")
            self._figure = ui.echart({"series": []})
            self._nothing = ui.label("no data yet").classes("nothing")

    def show(self, drawing: Drawing) -> None:
        """Show `drawing`, unless it is the one that is shown."""
        if drawing is self._drawing:
            return
        self._drawing = drawing
        self._box.props(f"data-points={drawing.num_windows}")
        self._nothing.set_visibility(drawing.num_windows == 0)
        self._unit.set_text(f" · {drawing.unit}")
        self._note.set_text(drawing.note)
        self._list(drawing.rows)
        self._figure.options.clear()
        self._figure.options.update(drawing.options)
        self._figure.update()

    def tell_age(self, now_s: float) -> None:
        """Refresh the age of the newest point."""
        clock_s = self._drawing.newest_clock_s if self._drawing else None
        if clock_s is not None:
            self._box.props(f'data-age-seconds="{max(now_s - clock_s, 0):.1f}"')

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
