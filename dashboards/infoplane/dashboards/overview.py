"""The Grafana dashboard `infoplane-overview`: alive? changed? since when? and what does the monitor cost.

Classic schema: Grafana 10 to 13 read it. The x axis is time; a grid over steps is what the live page is for.
"""

from __future__ import annotations

from typing import Any, Final

from infoplane.collector.metrics import metric_named
from infoplane.dashboards.panels import (
    LAYER,
    RUN,
    board,
    choice,
    encoded,
    heatmap,
    lines,
    source_variable,
    stat,
)

UID: Final = "infoplane-overview"
_MI: Final = 'run="$run",layer=~"$layer",estimator=~"$estimator"'


def overview_json() -> str:
    """Return the dashboard as Grafana's JSON, two spaces deep."""
    built = board(
        "infoplane overview",
        UID,
        "Information plane of one training run, and the health of its monitor.",
    )
    return encoded(built, _variables(), _rows())


def _variables() -> list[Any]:
    layers = f"label_values(infoplane_von_neumann_entropy_nats{{{RUN}}}, layer)"
    estimators = f"label_values(infoplane_mutual_information_nats{{{RUN}}}, estimator)"
    return [
        source_variable(),
        choice("run", "Run", "label_values(infoplane_run_info, run)"),
        choice("layer", "Layer", layers).multi(True).include_all(True).all_value(".*"),
        choice("estimator", "Estimator", estimators).multi(True).include_all(True).all_value(".*"),
    ]


def _rows() -> list[tuple[str, list[Any]]]:
    return [
        ("Alive", _alive()),
        ("Information by layer", _layers()),
        ("Training", _training()),
        ("The monitor itself", _monitor()),
    ]


def _alive() -> list[Any]:
    age = f"time() - infoplane_last_window_end_timestamp_seconds{{{RUN}}}"
    worst = f"min by (run) (infoplane_window_completeness_ratio{{{RUN}}})"
    return [
        stat("Newest window", "Age of the newest window.", "s", age, (60.0, 300.0)),
        stat(
            "Step", "Last step of the newest window.", "none", f"infoplane_training_step{{{RUN}}}"
        ),
        stat("Worst completeness", "Smallest completeness over units.", "percentunit", worst),
        stat(
            "Overhead",
            "Share of the step time that the agents cost.",
            "percentunit",
            f"max by (run) (infoplane_agent_overhead_ratio{{{RUN}}})",
            (0.01, 0.02),
        ),
        stat(
            "Verdicts",
            "Verdicts of the run that are more than information.",
            "none",
            f'sum by (run) (infoplane_verdicts_total{{{RUN},severity!="info"}}) or vector(0)',
            (1.0, 1.0),
        ),
    ]


def _layers() -> list[Any]:
    mi = "infoplane_mutual_information"
    neighbours, target = _MI + ',pair!=""', _MI + ',label="next_token"'
    return [
        heatmap("von_neumann_entropy_nats", "Entropy by layer", LAYER, "layer"),
        heatmap("mutual_information_nats", "Information between neighbours", neighbours, "layer"),
        heatmap("mutual_information_nats", "Information about the next token", target, "layer"),
        lines(
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
        lines(
            "Saturated estimates",
            "Share of estimates at their ceiling, by estimator.",
            "percentunit",
            [(f"avg by (estimator) ({mi}_saturated{{{_MI}}})", "{{estimator}}")],
        ),
    ]


def _training() -> list[Any]:
    return [
        lines(
            "Token entropy and surprisal",
            metric_named("policy_entropy_nats").help,
            "suffix: nats",
            [
                (f"infoplane_policy_entropy_nats{{{RUN}}}", "policy entropy"),
                (f"infoplane_token_surprisal_nats{{{RUN}}}", "token surprisal"),
            ],
        ),
        lines(
            "Training scalars",
            metric_named("training_scalar").help,
            "none",
            [(f"infoplane_training_scalar{{{RUN}}}", "{{stream}}")],
        ),
        lines(
            "Announced plan",
            metric_named("training_announced").help,
            "none",
            [(f"infoplane_training_announced{{{RUN}}}", "{{stream}}")],
        ),
    ]


def _monitor() -> list[Any]:
    return [
        lines(
            "Completeness by unit",
            metric_named("window_completeness_ratio").help,
            "percentunit",
            [(f"min by (stream) (infoplane_window_completeness_ratio{{{RUN}}})", "{{stream}}")],
        ),
        lines(
            "Records sent and dropped",
            "Per second over all ranks; drops by reason.",
            "cps",
            [
                (
                    f"sum by (run) (rate(infoplane_agent_sent_records_total{{{RUN}}}[$__rate_interval]))",
                    "sent",
                ),
                (
                    f"sum by (reason) (rate(infoplane_agent_dropped_records_total{{{RUN}}}[$__rate_interval]))",
                    "dropped: {{reason}}",
                ),
            ],
        ),
        lines(
            "Results without a value",
            "Series whose newest window is undefined, by metric and reason.",
            "none",
            [(f"infoplane_undefined_results{{{RUN}}}", "{{metric}}: {{reason}}")],
        ),
        lines(
            "Refused by the exporter",
            "Results of the run that were refused, per second.",
            "cps",
            [
                (
                    f"sum by (reason) (rate(infoplane_series_rejected_total{{{RUN}}}[$__rate_interval]))",
                    "{{reason}}",
                ),
            ],
        ),
    ]
