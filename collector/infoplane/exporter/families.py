"""The names under which a metric of the registry is exported.

`mutual_information_nats` becomes `infoplane_mutual_information_nats`; what stands beside the value keeps the unit at
the end: `infoplane_mutual_information_null_nats`, `..._null_sd_nats`, `..._ceiling_nats`; `..._saturated` has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from infoplane.collector.metrics import METRICS, Metric
from infoplane.exporter.points import Point

PREFIX: Final = "infoplane_"
RUN: Final = "run"


@dataclass(frozen=True, slots=True)
class Companion:
    """A number that stands beside a value: how it is named, explained and read off a point."""

    word: str
    help: str
    read: Callable[[Point], float | None]
    has_unit: bool = True

    def name_for(self, metric: Metric) -> str:
        """Return the exported name beside `metric`."""
        base, unit = split_unit(metric)
        has_unit = self.has_unit or base in _SHARED
        return PREFIX + "_".join(filter(None, (base, self.word, unit if has_unit else "")))


NULL: Final = Companion(
    "null", "the same estimate on shuffled data, mean", lambda point: point.null_mean
)
NULL_SD: Final = Companion(
    "null_sd",
    "standard deviation of the estimate on shuffled data",
    lambda point: point.null_sd,
)
CEILING: Final = Companion(
    "ceiling",
    "largest value that the estimator can report with this many rows",
    lambda point: point.ceiling,
)
SATURATED: Final = Companion(
    "saturated",
    "1 if the estimate is at its ceiling and so a lower bound only",
    lambda point: None if point.ceiling is None else float(point.saturated),
    has_unit=False,
)
COMPANIONS: Final = (NULL, NULL_SD, CEILING, SATURATED)


def split_unit(metric: Metric) -> tuple[str, str]:
    """Return the name without its unit, and the unit as the name writes it (empty if it does not)."""
    suffix = f"_{metric.unit}"
    if metric.name.endswith(suffix):
        return metric.name.removesuffix(suffix), metric.unit
    return metric.name, ""


# Names that differ in their unit alone: what stands beside them needs it too.
_SHARED: Final = frozenset(
    base
    for base, count in Counter(split_unit(metric)[0] for metric in METRICS).items()
    if count > 1
)


def name_of(metric: Metric) -> str:
    """Return the exported name of the value itself."""
    return PREFIX + metric.name


def label_names(metric: Metric) -> list[str]:
    """Return the label names of a metric's families, the run first."""
    return [RUN, *metric.labels]


def exported_names() -> list[str]:
    """Return every name that the registry can give rise to, companions included."""
    gauges = [metric for metric in METRICS if metric.kind == "gauge"]
    return [
        *(name_of(metric) for metric in METRICS),
        *(companion.name_for(metric) for metric in gauges for companion in COMPANIONS),
    ]
