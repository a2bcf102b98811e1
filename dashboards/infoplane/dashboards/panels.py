"""The parts that all dashboards are built of: variables, annotations and panels.

Classic schema: Grafana 10 to 13 read it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final

from infoplane.collector.metrics import metric_named

with warnings.catch_warnings():
    # The SDK would rather build schema 2, which Grafana 10 to 12 cannot read.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import (
        common,
        dashboard,
        prometheus,
        timeseries,
    )
    from grafana_foundation_sdk.builders import heatmap as heatmaps
    from grafana_foundation_sdk.builders import stat as stats
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.common import DataSourceRef
    from grafana_foundation_sdk.models.dashboard import (
        DashboardCursorSync,
        DashboardLinkType,
        Threshold,
        ThresholdsMode,
        VariableRefresh,
        VariableSort,
    )
    from grafana_foundation_sdk.models.heatmap import HeatmapColorMode

SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${DS_PROMETHEUS}")
RUN: Final = 'run="$run"'
LAYER: Final = 'run="$run",layer=~"$layer"'
UNITS: Final = {"nats": "suffix: nats", "bits": "suffix: bits", "ratio": "percentunit", "1": "none"}
Query = tuple[str, str]


def board(title: str, uid: str, description: str) -> dashboard.Dashboard:
    """Return a dashboard without variables and panels."""
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["infoplane", "generated"])
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .refresh("10s")
        .time("now-1h", "now")
        .readonly()
        .link(
            dashboard.DashboardLink("infoplane dashboards")
            .type(DashboardLinkType.DASHBOARDS)
            .tags(["infoplane"])
            .as_dropdown(True)
            .keep_time(True)
        )
        .annotation(verdict_annotation())
        .annotation(intervention_annotation())
    )


def encoded(
    built: dashboard.Dashboard, variables: Sequence[Any], rows: Sequence[tuple[str, Sequence[Any]]]
) -> str:
    """Return a dashboard with variables and rows of panels as Grafana's JSON, two spaces deep."""
    for variable in variables:
        built = built.with_variable(variable)
    for title, panels in rows:
        built = built.with_row(dashboard.Row(title))
        for panel in panels:
            built = built.with_panel(panel)
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def source_variable() -> dashboard.DatasourceVariable:
    """Return the choice of the data source."""
    return dashboard.DatasourceVariable("DS_PROMETHEUS").label("Data source").type("prometheus")


def choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """Return a variable whose values come from a query."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def verdict_annotation() -> dashboard.AnnotationQuery:
    """Return marks at verdicts."""
    return (
        dashboard.AnnotationQuery()
        .name("Verdicts")
        .datasource(SOURCE)
        .enable(True)
        .icon_color("red")
        .expr(_rises_of(f"infoplane_verdicts_total{{{RUN}}}"))
        .title_format("{{severity}}: {{metric}}")
        .text_format("{{detector}}")
    )


def intervention_annotation() -> dashboard.AnnotationQuery:
    """Return marks at interventions."""
    # Between proposed and applied there is nothing to see that its end would not show.
    return (
        dashboard.AnnotationQuery()
        .name("Interventions")
        .datasource(SOURCE)
        .enable(True)
        .icon_color("blue")
        .expr(_rises_of(f'infoplane_interventions_total{{{RUN},stage!="sent"}}'))
        .title_format("{{action}}: {{stage}}")
        .text_format("{{mode}}")
    )


def _rises_of(total: str) -> str:
    # A counter that is born with its first event has not changed yet, so its birth counts too.
    born = f"{total} unless {total} offset $__interval"
    return f"changes({total}[$__interval]) > 0 or ({born})"


def _target(query: Query, place: int) -> prometheus.Dataquery:
    expr, legend = query
    return (
        prometheus.Dataquery()
        .datasource(SOURCE)
        .expr(expr)
        .legend_format(legend)
        .ref_id(chr(ord("A") + place))
        .range()
    )


def stat(
    title: str, text: str, unit: str, expr: str, limits: tuple[float, float] | None = None
) -> stats.Panel:
    """Return one big number, coloured by `limits`."""
    return (
        stats.Panel()
        .title(title)
        .description(text)
        .unit(unit)
        .datasource(SOURCE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target((expr, title), 0))
        .thresholds(_thresholds(limits))
        .height(4)
        .span(4)
    )


def _thresholds(limits: tuple[float, float] | None) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value=None, color="green")]
    if limits is not None:
        steps += [
            Threshold(value=limits[0], color="orange"),
            Threshold(value=limits[1], color="red"),
        ]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def lines(title: str, text: str, unit: str, queries: list[Query]) -> timeseries.Panel:
    """Return curves, one query each."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(text)
        .unit(unit)
        .datasource(SOURCE)
        .height(8)
        .span(8)
    )
    for place, query in enumerate(queries):
        panel = panel.with_target(_target(query, place))
    return panel


def heatmap(name: str, title: str, matcher: str, row: str) -> heatmaps.Panel:
    """Every series is a row: layers are zero-padded, so they sort by depth."""
    metric = metric_named(name)
    expr = f"avg by ({row}) (infoplane_{metric.name}{{{matcher}}})"
    colors = (
        heatmaps.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Viridis").steps(64)
    )
    return (
        heatmaps.Panel()
        .title(title)
        .description(f"{metric.help} {metric.reading}".strip())
        .unit(UNITS[metric.unit])
        .datasource(SOURCE)
        .calculate(False)
        .color(colors)
        .cell_gap(0)
        .show_legend()
        .with_target(_target((expr, f"{{{{{row}}}}}"), 0))
        .height(10)
        .span(8)
    )
