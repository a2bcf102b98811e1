"""The Grafana dashboard `infoplane-representations`: what the layers know, how their rows lie, and how fast they move.

Which panel a metric gets follows from the registry: a metric of layers is a map of layers over time, beside it the mean
over layers with the null and the ceiling; any other metric is a set of curves.
"""

from __future__ import annotations

from typing import Any, Final

from infoplane.collector.metrics import Metric, metric_named
from infoplane.dashboards.panels import (
    LAYER,
    RUN,
    UNITS,
    Query,
    board,
    choice,
    encoded,
    heatmap,
    lines,
    source_variable,
)

UID: Final = "infoplane-representations"
ROWS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (
        "What layers know of the next token",
        (
            "diffusion_spectral_mi_bits",
            "soft_mi_ratio",
            "binned_mi_bits",
            "usable_information_bits",
        ),
    ),
    (
        "How rows lie",
        (
            "diffusion_spectral_entropy_bits",
            "soft_entropy_ratio",
            "epsilon_rank",
            "representation_rate_bits",
            "manifold_capacity_ratio",
            "manifold_spread",
            "binned_entropy_bits",
            "differential_entropy_nats",
        ),
    ),
    (
        "What taps say of each other",
        (
            "cs_qmi_ratio",
            "cs_qmi_bits",
            "kde_mi_upper_nats",
            "kde_mi_lower_nats",
            "tap_predictability_nats",
            "tap_join_integrity_ratio",
            "tap_total_correlation_nats",
            "predictive_information_nats",
            "critical_beta",
            "information_rank",
        ),
    ),
    (
        "How fast they move",
        (
            "representation_fisher_step",
            "fisher_path_length",
            "fisher_path_efficiency_ratio",
            "policy_fisher_step",
        ),
    ),
    (
        "Along the sequence and through training",
        (
            "sequence_mi_nats",
            "activation_entropy_gain_nats",
            "prequential_code_length_nats",
            "prequential_regret_nats",
            "checkpoint_mixture_gain_nats",
            "conditional_noise_mi_nats",
            "generalization_gap_nats",
        ),
    ),
)


def representations_json() -> str:
    """Return the dashboard as Grafana's JSON, two spaces deep."""
    built = board(
        "infoplane representations",
        UID,
        "Information, entropy and geometry of the representations of one training run, by layer.",
    )
    rows = [
        (title, [panel for name in names for panel in panels_of(metric_named(name))])
        for title, names in ROWS
    ]
    return encoded(built, _variables(), rows)


def _variables() -> list[Any]:
    layers = f"label_values(infoplane_von_neumann_entropy_nats{{{RUN}}}, layer)"
    return [
        source_variable(),
        choice("run", "Run", "label_values(infoplane_run_info, run)"),
        choice("layer", "Layer", layers).multi(True).include_all(True).all_value(".*"),
    ]


def panels_of(metric: Metric) -> list[Any]:
    """Return the panels of one metric."""
    title = metric.name.removesuffix(f"_{metric.unit}").replace("_", " ").capitalize()
    if "layer" not in metric.labels:
        return [
            lines(title, _text(metric), UNITS[metric.unit], _curves(metric, RUN, _legend(metric)))
        ]
    return [
        heatmap(metric.name, title, LAYER, "layer"),
        lines(
            f"{title}, mean over layers",
            "Near the null there is nothing to see; at the ceiling the value is a lower bound.",
            UNITS[metric.unit],
            _curves(metric, LAYER, "value", mean=True),
        ),
    ]


def _text(metric: Metric) -> str:
    return f"{metric.help} {metric.reading}".strip()


def _legend(metric: Metric) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in metric.labels) or metric.name


def _curves(metric: Metric, matcher: str, legend: str, *, mean: bool = False) -> list[Query]:
    """Return value, null and ceiling; what an estimator does not give has no series and draws nothing."""
    suffix = "" if metric.unit == "1" else f"_{metric.unit}"
    stem = f"infoplane_{metric.name.removesuffix(suffix) if suffix else metric.name}"
    found = []
    for part, name in (
        ("", legend),
        ("_null", f"{legend} null"),
        ("_ceiling", f"{legend} ceiling"),
    ):
        series = f"{stem}{part}{suffix}{{{matcher}}}"
        found.append((f"avg by (run) ({series})" if mean else series, name))
    return found
