"""The metric registry: the one table of every metric, read by estimate, exporter, docs and dashboards."""

from infoplane.collector.metrics.metric import Context, Item, Metric, Need, Source
from infoplane.collector.metrics.registry import METRICS, metric_named

__all__ = ["METRICS", "Context", "Item", "Metric", "Need", "Source", "metric_named"]
