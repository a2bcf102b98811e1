"""ECharts options of a line chart over steps: verdicts are bands and lines, interventions lines with a name."""

from __future__ import annotations

from typing import Any, Final

from infoplane.exporter.page.charts import Chart, Curves
from infoplane.exporter.page.marks import ActionMark, Mark
from infoplane.exporter.page.palette import (
    ACTION,
    GRID,
    LINES,
    MUTED,
    TEXT,
    ramp,
    severity_color,
)

_NAMED: Final = ("loss", "rate")  # charts in which the lines of interventions carry their names


def line_options(
    chart: Chart,
    curves: Curves,
    marks: list[Mark],
    run: str,
    steps: tuple[int, int] | None,
    actions: list[ActionMark] | None = None,
) -> dict[str, Any]:
    """Return the options; `steps` is the range of the x axis, the same for all charts of the page."""
    legend = len(curves) > 1 and chart.kind == "lines"
    series = [_series(chart, name, index, curves) for index, name in enumerate(curves)]
    if series:
        series[0] |= _verdict_marks(chart, marks, steps)
        series[0]["markLine"]["data"] += _action_lines(chart, actions or [], steps)
    return {
        "animation": False,
        "textStyle": {"color": TEXT},
        "grid": {"left": 52, "right": 14, "top": 24 if legend else 10, "bottom": 24},
        "legend": {
            "show": legend,
            "type": "scroll",
            "top": 0,
            "left": 46,
            "right": 4,
            "itemWidth": 14,
            "itemHeight": 2,
            "icon": "rect",
            "textStyle": {"color": MUTED, "fontSize": 10},
            "pageTextStyle": {"color": MUTED},
            "pageIconColor": TEXT,
        },
        "tooltip": {
            "trigger": "axis",
            "confine": True,
            "className": "tip",
            "axisPointer": {"lineStyle": {"color": MUTED}},
            ":formatter": f"infoplane.tip({run!r}, {chart.id!r})",
        },
        "xAxis": _axis() | ({"min": steps[0], "max": steps[1]} if steps else {}),
        "yAxis": _axis() | _scale(chart),
        "series": series,
    }


def _axis() -> dict[str, Any]:
    return {
        "type": "value",
        "axisLine": {"lineStyle": {"color": GRID}},
        "splitLine": {"lineStyle": {"color": GRID}},
        "splitNumber": 4,
        "axisLabel": {
            "color": MUTED,
            "fontSize": 10,
            "hideOverlap": True,
            ":formatter": "infoplane.tick",
        },
    }


def _scale(chart: Chart) -> dict[str, Any]:
    if chart.kind == "share":
        return {"min": 0, "max": 1, "interval": 0.25}
    return {"scale": chart.id not in ("overhead", "rate")}


def _series(chart: Chart, name: str, index: int, curves: Curves) -> dict[str, Any]:
    depth = chart.kind == "depth"
    color = ramp(index / max(len(curves) - 1, 1)) if depth else LINES[index % len(LINES)]
    return {
        "type": "line",
        "name": name,
        "color": color,
        "showSymbol": len(curves[name]) < 2,
        "symbolSize": 4,
        "lineStyle": {"width": 1 if depth else 1.6, "color": color},
        "emphasis": {"focus": "series" if depth else "none"},
        "data": [
            [
                point.last_step,
                None if point.undefined else float(f"{point.value:.5g}"),
                point.window,
            ]
            for point in curves[name]
        ],
    }


def _verdict_marks(
    chart: Chart, marks: list[Mark], steps: tuple[int, int] | None
) -> dict[str, Any]:
    seen = [mark for mark in marks if steps is None or mark.detected_step >= steps[0]]
    return {
        "markLine": {
            "silent": True,
            "symbol": "none",
            "label": {"show": False},
            "data": [
                {
                    "xAxis": mark.detected_step,
                    "lineStyle": {
                        "color": severity_color(mark.severity),
                        "width": 1.5 if mark.metric in chart.metrics else 1,
                        "type": "solid" if mark.metric in chart.metrics else "dashed",
                    },
                }
                for mark in seen
            ],
        },
        "markArea": {
            "silent": True,
            "data": [
                [
                    {
                        "xAxis": mark.since_step,
                        "itemStyle": {
                            "color": severity_color(mark.severity),
                            "opacity": 0.16 if mark.metric in chart.metrics else 0.06,
                        },
                    },
                    {"xAxis": mark.detected_step},
                ]
                for mark in seen
            ],
        },
    }


def _action_lines(
    chart: Chart, actions: list[ActionMark], steps: tuple[int, int] | None
) -> list[dict[str, Any]]:
    return [
        {
            "xAxis": mark.step,
            "name": mark.name,
            "lineStyle": {
                "color": ACTION,
                "width": 1.5,
                "type": "solid" if mark.is_applied else "dotted",
            },
            "label": {
                "show": chart.id in _NAMED,
                "formatter": "{b}",
                "color": ACTION,
                "fontSize": 9,
                "position": "insideEndTop",
            },
        }
        for mark in actions
        if steps is None or mark.step >= steps[0]
    ]
