"""From a window to results: every metric of the registry that is on and due."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infoplane.collector.estimate.view import WindowView
from infoplane.collector.metrics.metric import Context, Item, Labels, Metric, Source, sorted_labels
from infoplane.estimators import Estimate
from infoplane.wire import DecodeError
from infoplane.wire import infoplane_pb2 as pb

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EstimateSettings:
    """How ESTIMATE joins and computes; times in milliseconds of the log's clock."""

    metrics: tuple[Metric, ...]
    join_deadline_ms: int = 60_000
    retain_windows: int = 4
    retain_ms: int = 600_000
    horizon_events: int = 50_000
    device: str = "cpu"
    off: frozenset[str] = frozenset()
    cadence: Mapping[str, int] = field(default_factory=dict)

    def due(self, metric: Metric, source: Source, window: int) -> bool:
        """Whether a source is computed in this window."""
        every = self.cadence.get(metric.name, source.cadence)
        return source.tier == "live" and metric.name not in self.off and window % every == 0


def seed_of(view: WindowView, metric: str, labels: Labels) -> int:
    """Seed of everything random about one estimate: a function of what is estimated, not of when."""
    text = "|".join([view.run, str(view.window), metric, *(f"{k}={v}" for k, v in labels)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def results_of(
    view: WindowView, settings: EstimateSettings, pane: pb.Pane, clock_ms: int
) -> Iterator[pb.Result]:
    """Yield one result per metric, source and item of the window, in the registry's order."""
    for metric in settings.metrics:
        for source in metric.sources:
            if settings.due(metric, source, view.window):
                yield from _of_source(view, metric, source, settings, pane, clock_ms)


def _of_source(
    view: WindowView,
    metric: Metric,
    source: Source,
    settings: EstimateSettings,
    pane: pb.Pane,
    clock_ms: int,
) -> Iterator[pb.Result]:
    try:
        items = source.need.gather(view)
    except DecodeError:
        _log.exception("window %d of run %s: %s cannot be read", view.window, view.run, metric.name)
        return
    labels = [sorted_labels(_labels_of(metric, source, item)) for item in items]
    present = [place for place, item in enumerate(items) if item.value is not None]
    context = Context(
        settings.device,
        [seed_of(view, metric.name, labels[place]) for place in present],
        source.options,
    )
    values = _estimates([items[place].value for place in present], metric, source, context)
    found = dict(zip(present, values, strict=True))
    for place, item in enumerate(items):
        estimate = found.get(place) or Estimate.missing(
            item.undefined or "input",
            unit=metric.unit,  # type: ignore[arg-type]
            n=0,
            estimator=source.estimator,
            version=1,
        )
        yield result_message(
            view, metric.name, labels[place], estimate, item.completeness, pane, clock_ms
        )


def _labels_of(metric: Metric, source: Source, item: Item[Any]) -> dict[str, str]:
    labels = dict(item.labels)
    if "estimator" in metric.labels:
        labels["estimator"] = source.estimator
    return labels


def _estimates(
    inputs: Sequence[Any], metric: Metric, source: Source, context: Context
) -> Sequence[Estimate]:
    """Compute; a defect in one estimator must cost its own metric only, never the collector."""
    if not inputs:
        return []
    try:
        return source.compute(inputs, context)
    except Exception:  # noqa: BLE001 - see above
        _log.exception("estimator %s of %s failed", source.estimator, metric.name)
        missing = Estimate.missing(
            "error",
            unit=metric.unit,  # type: ignore[arg-type]
            n=0,
            estimator=source.estimator,
            version=1,
        )
        return [missing] * len(inputs)


def result_message(
    view: WindowView,
    metric: str,
    labels: Labels,
    estimate: Estimate,
    completeness: float,
    pane: pb.Pane,
    clock_ms: int,
) -> pb.Result:
    """Return the wire form of one estimate. A value that is not finite goes out as undefined."""
    undefined = estimate.undefined
    if not undefined and not math.isfinite(estimate.value):
        undefined = "nan"
    result = pb.Result(
        run=view.run,
        attempt=view.attempt,
        window=view.window,
        pane=pane,
        first_step=view.first_step,
        last_step=view.last_step,
        clock_ms=clock_ms,
        metric=metric,
        labels=[pb.Label(name=name, value=value) for name, value in labels],
        value=math.nan if undefined else estimate.value,
        unit=estimate.unit,
        n=estimate.n,
        saturated=estimate.saturated,
        completeness=completeness,
        estimator=estimate.estimator,
        estimator_version=estimate.version,
        undefined=undefined,
        parameters=[
            pb.Parameter(name=name, value=str(value))
            for name, value in sorted(estimate.parameters.items())
        ],
    )
    for name in ("null_mean", "null_sd", "ceiling"):
        value = getattr(estimate, name)
        if value is not None and math.isfinite(value):
            setattr(result, name, value)
    if estimate.band is not None and all(map(math.isfinite, estimate.band)):
        result.band_low, result.band_high = estimate.band
    return result
