"""ECharts options of a heatmap: rows by depth, columns by step, boxes where a verdict stands, lines where one acted."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoplane.exporter.page.charts import Chart
from infoplane.exporter.page.grid import Grid, changes_of
from infoplane.exporter.page.marks import ActionMark, Mark
from infoplane.exporter.page.palette import CHANGES, GRID, MUTED, TEXT, VALUES

_LIMIT_Z = 8.0
_MOST_LABELS = 14


def heatmap_options(
    chart: Chart,
    grid: Grid,
    marks: list[Mark],
    run: str,
    *,
    changes: bool,
    actions: list[ActionMark] | None = None,
) -> dict[str, Any]:
    """Return the options; `changes` shows robust z against each row's own past instead of values."""
    shown = changes_of(grid) if changes else grid.values
    return {
        "animation": False,
        "textStyle": {"color": TEXT},
        "grid": {"left": 62, "right": 58, "top": 6, "bottom": 34},
        "tooltip": _tooltip(chart, run),
        "xAxis": _axis([str(step) for step in grid.steps], "infoplane.step") | _step_name(),
        "yAxis": _row_axis(grid.rows),
        "visualMap": _color_bar(shown, changes),
        "series": [
            {
                # Not type "heatmap": this ECharts paints that one in slices of 15 ms, which flickers.
                "type": "custom",
                ":renderItem": "infoplane.cell",
                "data": _cells(grid, shown),
                "progressive": 0,
            },
            {
                "type": "custom",
                ":renderItem": "infoplane.box",
                "silent": True,
                "z": 5,
                "data": _boxes(chart, grid, marks) + _lines(grid, actions or []),
            },
        ],
    }


def _tooltip(chart: Chart, run: str) -> dict[str, Any]:
    return {
        "trigger": "item",
        "confine": True,
        "className": "tip",
        ":formatter": f"infoplane.tip({run!r}, {chart.id!r})",
    }


def _axis(names: list[str], formatter: str) -> dict[str, Any]:
    return {
        "type": "category",
        "data": names,
        "axisLine": {"lineStyle": {"color": GRID}},
        "axisTick": {"show": False},
        "axisLabel": {
            "color": MUTED,
            "fontSize": 10,
            "hideOverlap": True,
            ":formatter": formatter,
        },
    }


def _row_axis(rows: tuple[str, ...]) -> dict[str, Any]:
    axis = _axis(list(rows), "infoplane.row")
    stride = -(-len(rows) // _MOST_LABELS)
    # The output is named always, the others from the input on, as many as fit without touching.
    last = len(rows) - 1
    named = [row for row in range(0, len(rows), stride or 1) if last - row >= stride] + [last]
    axis["axisLabel"] |= {":interval": f"(index) => {named}.includes(index)"}
    return axis


def _step_name() -> dict[str, Any]:
    return {
        "name": "step",
        "nameLocation": "middle",
        "nameGap": 20,
        "nameTextStyle": {"color": MUTED, "fontSize": 10},
    }


def _color_bar(shown: NDArray[np.float64], changes: bool) -> dict[str, Any]:
    low, high = (-_LIMIT_Z, _LIMIT_Z) if changes else _range(shown)
    return {
        "type": "continuous",
        "seriesIndex": 0,
        "dimension": 2,
        "min": low,
        "max": high,
        "text": [_number(high, changes), _number(low, changes)],
        "inRange": {"color": list(CHANGES if changes else VALUES)},
        "orient": "vertical",
        "right": 4,
        "top": "middle",
        "itemWidth": 10,
        "itemHeight": 150,
        "textStyle": {"color": MUTED, "fontSize": 10},
    }


def _range(shown: NDArray[np.float64]) -> tuple[float, float]:
    """Take the middle 98 %: one wild cell must not flatten the picture."""
    found = shown[np.isfinite(shown)]
    if not len(found):
        return 0.0, 1.0
    low, high = (float(edge) for edge in np.percentile(found, [1, 99]))
    margin = max((high - low) * 0.02, 1e-3 * abs(high), 1e-6)
    return low - margin, high + margin


def _number(value: float, changes: bool) -> str:
    return f"{value:+.0f}" if changes else f"{value:.3g}"


def _cells(grid: Grid, shown: NDArray[np.float64]) -> list[list[Any]]:
    rows, columns = np.nonzero(np.isfinite(shown))
    windows = np.asarray(grid.windows)[columns]
    values = shown[rows, columns].round(4)
    cells = zip(columns.tolist(), rows.tolist(), values.tolist(), windows.tolist(), strict=True)
    return [[*cell] for cell in cells]


def _boxes(chart: Chart, grid: Grid, marks: list[Mark]) -> list[list[Any]]:
    """Return [first column, last column, first row, last row, severity, own] of every box."""
    if not grid.windows:
        return []
    boxes = []
    for mark in marks:
        if mark.detected_step < grid.steps[0]:
            continue
        first, last = grid.column_of(mark.since_step), grid.column_of(mark.detected_step)
        rows = [row for row, name in enumerate(grid.rows) if name in mark.rows]
        own = mark.metric in chart.metrics and bool(rows)
        spans = _spans(rows) if own else [(0, len(grid.rows) - 1)]
        boxes += [[first, last, *span, mark.code, int(own)] for span in spans]
    return boxes


def _lines(grid: Grid, actions: list[ActionMark]) -> list[list[Any]]:
    """Return a box of another chart's form for every intervention: a line over all rows."""
    if not grid.windows:
        return []
    columns = [(grid.column_of(mark.step), mark) for mark in actions if mark.step >= grid.steps[0]]
    return [[column, column, 0, len(grid.rows) - 1, mark.code, 0] for column, mark in columns]


def _spans(rows: list[int]) -> list[tuple[int, int]]:
    """Group neighbouring rows."""
    spans: list[tuple[int, int]] = []
    for row in rows:
        if spans and spans[-1][1] == row - 1:
            spans[-1] = (spans[-1][0], row)
        else:
            spans.append((row, row))
    return spans
