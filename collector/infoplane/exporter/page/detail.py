"""What hovering shows: everything that is known about one window of one chart."""

from __future__ import annotations

from typing import Any

from infoplane.exporter.answers import point_answer
from infoplane.exporter.page.charts import Chart
from infoplane.exporter.points import Point
from infoplane.exporter.store import Store


def window_detail(
    store: Store, run: str, chart: Chart, window: int, index: int | None
) -> dict[str, Any]:
    """Return the points of `window` by name, only those of the row at `index` if it is given."""
    found: list[tuple[str, Point]] = [
        (name, point)
        for place, (name, points) in enumerate(chart.curves(store, run).items())
        if index in (None, place)
        for point in points
        if point.window == window
    ]
    return {
        "title": chart.title,
        "unit": chart.unit,
        "rows": [{"name": name, **point_answer(point)} for name, point in found],
    }
