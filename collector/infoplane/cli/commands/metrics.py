"""`infoplane metrics list|show`: the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from infoplane.cli.flags import Json
from infoplane.cli.output import emit, emit_json, emit_table

if TYPE_CHECKING:
    from infoplane.collector.metrics import Metric, Source

app = typer.Typer(name="metrics", help="Print the metric registry.", no_args_is_help=True)


@app.command("list")
def list_metrics(as_json: Json = False) -> None:
    """List every metric with its unit and estimators."""
    from infoplane.collector.metrics import METRICS

    if as_json:
        emit_json([_described(metric) for metric in METRICS])
        return
    rows = [
        (metric.name, metric.unit, ",".join(_estimators(metric)), "yes" if _door(metric) else "-")
        for metric in METRICS
    ]
    emit_table(("METRIC", "UNIT", "ESTIMATORS", "ARRAYS"), rows)


@app.command("show")
def show_metric(
    name: Annotated[str, typer.Argument(help="Name, with or without infoplane_.")],
    as_json: Json = False,
) -> None:
    """Show what one metric means, what it needs and how to read it."""
    from infoplane.collector.metrics import metric_named

    metric = metric_named(name)
    if as_json:
        emit_json(_described(metric))
        return
    emit(f"{metric.name} ({metric.unit}, {metric.kind})")
    emit(f"  {metric.help}")
    if metric.reading:
        emit(f"  How to read it: {metric.reading}")
    emit(f"  labels: {', '.join(('run', *metric.labels))}")
    for source in metric.sources:
        emit(f"  estimator {source.estimator}: every {source.cadence}. window, {source.tier}")
        emit(f"    from {source.need.name}")
        for array, meaning in source.need.arrays.items():
            emit(f"    array {array}: {meaning}")
        for option, default in source.options.items():
            emit(f"    option {option} = {default}")


def _estimators(metric: Metric) -> list[str]:
    return list(dict.fromkeys(source.estimator for source in metric.sources))


def _door(metric: Metric) -> bool:
    return any(source.need.arrays for source in metric.sources)


def _described(metric: Metric) -> dict[str, Any]:
    return {
        "name": metric.name,
        "unit": metric.unit,
        "kind": metric.kind,
        "help": metric.help,
        "reading": metric.reading,
        "labels": list(metric.labels),
        "papers": list(metric.papers),
        "sources": [_source(source) for source in metric.sources],
    }


def _source(source: Source) -> dict[str, Any]:
    return {
        "estimator": source.estimator,
        "need": source.need.name,
        "arrays": dict(source.need.arrays),
        "options": dict(source.options),
        "cadence": source.cadence,
        "tier": source.tier,
    }
