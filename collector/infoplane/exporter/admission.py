"""What the store refuses to hold, so that a faulty writer cannot blow up a Prometheus."""

from __future__ import annotations

from typing import Final

from infoplane.collector.metrics import metric_named
from infoplane.exporter.points import SeriesId
from infoplane.wire.errors import UndefinedMetricError

MAX_LABEL_LENGTH: Final = 128
CAP: Final = "cap"
METRIC: Final = "metric"
LABELS: Final = "labels"
REASONS: Final = (CAP, METRIC, LABELS)


def refusal(series: SeriesId) -> str:
    """Return why `series` may not be held, one of `REASONS`; empty if it may."""
    try:
        metric = metric_named(series.metric)
    except UndefinedMetricError:
        return METRIC
    names = {name for name, _ in series.labels}
    too_long = any(len(value) > MAX_LABEL_LENGTH for _, value in series.labels)
    return LABELS if too_long or not names <= set(metric.labels) else ""
