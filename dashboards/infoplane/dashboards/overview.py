"""The Grafana dashboard `infoplane-overview`: alive? changed? since when? and what does the monitor cost.

Classic schema: Grafana 10 to 13 read it. The x axis is time; a grid over steps is what the live page is for.
"""

from __future__ import annotations

import warnings
from typing import Any, Final

from infoplane.collector.metrics import metric_named

with warnings.catch_warnings():
    # The SDK would rather build schema 2, which Grafana 10 to 12 cannot read.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import (
        common,
        dashboard,
        heatmap,
        prometheus,
        stat,
        timeseries,
    )
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

UID: Final = "infoplane-overview"
SOURCE: Final = DataSourceRef(type_val="prometheus", uid="${DS_PROMETHEUS}")
_RUN: Final = 'run="$run"'
_LAYER: Final = 'run="$run",layer=~"$layer"'
_MI: Final = 'run="$run",layer=~"$layer",estimator=~"$estimator"'
_UNITS: Final = {"nats": "suffix: nats", "ratio": "percentunit"}
Query = tuple[str, str]


def overview_json() -> str:
    """Return the dashboard as Grafana's JSON, two spaces deep."""
    return JSONEncoder(sort_keys=True, indent=2).encode(_dashboard().build()) + "\n"


def _dashboard() -> dashboard.Dashboard:
    board = (
        dashboard.Dashboard("infoplane overview")
        .uid(UID)
        .description("Information plane of one training run, and the health of its monitor.")
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
        .annotation(_verdict_annotation())
        .annotation(_intervention_annotation())
    )
    for variable in _variables():
        board = board.with_variable(variable)
    for title, panels in _rows():
        board = board.with_row(dashboard.Row(title))
        for panel in panels:
            board = board.with_panel(panel)
    return board


def _variables() -> list[Any]:
    source = dashboard.DatasourceVariable("DS_PROMETHEUS").label("Data source").type("prometheus")
    layers = f"label_values(infoplane_von_neumann_entropy_nats{{{_RUN}}}, layer)"
    estimators = f"label_values(infoplane_mutual_information_nats{{{_RUN}}}, estimator)"
    return [
        source,
        _choice("run", "Run", "label_values(infoplane_run_info, run)"),
        _choice("layer", "Layer", layers).multi(True).include_all(True).all_value(".*"),
        _choice("estimator", "Estimator", estimators).multi(True).include_all(True).all_value(".*"),
    ]


def _choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )


def _verdict_annotation() -> dashboard.AnnotationQuery:
    return (
        dashboard.AnnotationQuery()
        .name("Verdicts")
        .datasource(SOURCE)
        .enable(True)
        .icon_color("red")
        .expr(_rises_of(f"infoplane_verdicts_total{{{_RUN}}}"))
        .title_format("{{severity}}: {{metric}}")
        .text_format("{{detector}}")
    )


def _intervention_annotation() -> dashboard.AnnotationQuery:
    # Between proposed and applied there is nothing to see that its end would not show.
    return (
        dashboard.AnnotationQuery()
        .name("Interventions")
        .datasource(SOURCE)
        .enable(True)
        .icon_color("blue")
        .expr(_rises_of(f'infoplane_interventions_total{{{_RUN},stage!="sent"}}'))
        .title_format("{{action}}: {{stage}}")
        .text_format("{{mode}}")
    )


def _rises_of(total: str) -> str:
    # A counter that is born with its first event has not changed yet, so its birth counts too.
    born = f"{total} unless {total} offset $__interval"
    return f"changes({total}[$__interval]) > 0 or ({born})"


def _rows() -> list[tuple[str, list[Any]]]:
    return [
        ("Alive", _alive()),
        ("Information by layer", _layers()),
        ("Training", _training()),
        ("The monitor itself", _monitor()),
    ]


def _alive() -> list[Any]:
    age = f"time() - infoplane_last_window_end_timestamp_seconds{{{_RUN}}}"
    worst = f"min by (run) (infoplane_window_completeness_ratio{{{_RUN}}})"
    return [
        _stat("Newest window", "Age of the newest window.", "s", age, (60.0, 300.0)),
        _stat(
            "Step", "Last step of the newest window.", "none", f"infoplane_training_step{{{_RUN}}}"
        ),
        _stat("Worst completeness", "Smallest completeness over units.", "percentunit", worst),
        _stat(
            "Overhead",
            "Share of the step time that the agents cost.",
            "percentunit",
            f"max by (run) (infoplane_agent_overhead_ratio{{{_RUN}}})",
            (0.01, 0.02),
        ),
        _stat(
            "Verdicts",
            "Verdicts of the run that are more than information.",
            "none",
            f'sum by (run) (infoplane_verdicts_total{{{_RUN},severity!="info"}}) or vector(0)',
            (1.0, 1.0),
        ),
    ]


def _layers() -> list[Any]:
    mi = "infoplane_mutual_information"
    neighbours, target = _MI + ',pair!=""', _MI + ',label="next_token"'
    return [
        _heatmap("von_neumann_entropy_nats", "Entropy by layer", _LAYER, "layer"),
        _heatmap("mutual_information_nats", "Information between neighbours", neighbours, "layer"),
        _heatmap("mutual_information_nats", "Information about the next token", target, "layer"),
        _lines(
            "Information, null and ceiling",
            "Mean over layers. Near the null there is nothing to see; at the ceiling the value is a lower bound.",
            "suffix: nats",
            [
                (f"avg by (estimator) ({mi}_nats{{{neighbours}}})", "{{estimator}}"),
                (f"avg by (estimator) ({mi}_null_nats{{{neighbours}}})", "{{estimator}} null"),
                (
                    f"avg by (estimator) ({mi}_ceiling_nats{{{neighbours}}})",
                    "{{estimator}} ceiling",
                ),
            ],
        ),
        _lines(
            "Saturated estimates",
            "Share of estimates at their ceiling, by estimator.",
            "percentunit",
            [(f"avg by (estimator) ({mi}_saturated{{{_MI}}})", "{{estimator}}")],
        ),
    ]


def _training() -> list[Any]:
    return [
        _lines(
            "Token entropy and surprisal",
            metric_named("policy_entropy_nats").help,
            "suffix: nats",
            [
                (f"infoplane_policy_entropy_nats{{{_RUN}}}", "policy entropy"),
                (f"infoplane_token_surprisal_nats{{{_RUN}}}", "token surprisal"),
            ],
        ),
        _lines(
            "Training scalars",
            metric_named("training_scalar").help,
            "none",
            [(f"infoplane_training_scalar{{{_RUN}}}", "{{stream}}")],
        ),
        _lines(
            "Announced plan",
            metric_named("training_announced").help,
            "none",
            [(f"infoplane_training_announced{{{_RUN}}}", "{{stream}}")],
        ),
    ]


def _monitor() -> list[Any]:
    return [
        _lines(
            "Completeness by unit",
            metric_named("window_completeness_ratio").help,
            "percentunit",
            [(f"min by (stream) (infoplane_window_completeness_ratio{{{_RUN}}})", "{{stream}}")],
        ),
        _lines(
            "Records sent and dropped",
            "Per second over all ranks; drops by reason.",
            "cps",
            [
                (
                    f"sum by (run) (rate(infoplane_agent_sent_records_total{{{_RUN}}}[$__rate_interval]))",
                    "sent",
                ),
                (
                    f"sum by (reason) (rate(infoplane_agent_dropped_records_total{{{_RUN}}}[$__rate_interval]))",
                    "dropped: {{reason}}",
                ),
            ],
        ),
        _lines(
            "Results without a value",
            "Series whose newest window is undefined, by metric and reason.",
            "none",
            [(f"infoplane_undefined_results{{{_RUN}}}", "{{metric}}: {{reason}}")],
        ),
        _lines(
            "Refused by the exporter",
            "Results of the run that were refused, per second.",
            "cps",
            [
                (
                    f"sum by (reason) (rate(infoplane_series_rejected_total{{{_RUN}}}[$__rate_interval]))",
                    "{{reason}}",
                ),
            ],
        ),
    ]


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


def _stat(
    title: str, text: str, unit: str, expr: str, limits: tuple[float, float] | None = None
) -> stat.Panel:
    return (
        stat.Panel()
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


def _lines(title: str, text: str, unit: str, queries: list[Query]) -> timeseries.Panel:
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


def _heatmap(name: str, title: str, matcher: str, row: str) -> heatmap.Panel:
    """Every series is a row: layers are zero-padded, so they sort by depth."""
    metric = metric_named(name)
    expr = f"avg by ({row}) (infoplane_{metric.name}{{{matcher}}})"
    colors = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Viridis").steps(64)
    return (
        heatmap.Panel()
        .title(title)
        .description(f"{metric.help} {metric.reading}".strip())
        .unit(_UNITS[metric.unit])
        .datasource(SOURCE)
        .calculate(False)
        .color(colors)
        .cell_gap(0)
        .show_legend()
        .with_target(_target((expr, f"{{{{{row}}}}}"), 0))
        .height(10)
        .span(8)
    )
