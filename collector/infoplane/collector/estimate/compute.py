"""From a window to results: every metric of the registry that is on and due."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infoplane.collector.estimate.memory import Memory
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
    on: frozenset[str] = frozenset()
    cadence: Mapping[str, int] = field(default_factory=dict)

    def due(self, metric: Metric, source: Source, window: int) -> bool:
        """Whether a source is computed in this window."""
        every = self.cadence.get(metric.name, source.cadence)
        is_on = source.tier == "live" or (source.tier == "opt" and metric.name in self.on)
        return is_on and metric.name not in self.off and window % every == source.phase % every


def seed_of(view: WindowView, metric: str, labels: Labels) -> int:
    """Seed of everything random about one estimate: a function of what is estimated, not of when."""
    text = "|".join([view.run, str(view.window), metric, *(f"{k}={v}" for k, v in labels)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@dataclass(frozen=True, slots=True)
class Computed:
    """What one computation found in a window: items, their labels, and estimates by metric of those with a value."""

    items: Sequence[Item[Any]]
    labels: Sequence[Labels]
    found: Mapping[int, Mapping[str, Estimate]]


@dataclass(slots=True)
class WindowComputation:
    """The computations of one window; those that metrics share run once.

    `memory` is what they remember of earlier windows. `takes` leaves sources out.
    """

    view: WindowView
    settings: EstimateSettings
    memory: Memory = field(default_factory=Memory)
    takes: Callable[[Source], bool] = lambda source: True
    _shared: dict[str, Computed] = field(default_factory=dict)

    def results(self, pane: pb.Pane, clock_ms: int) -> Iterator[pb.Result]:
        """Yield one result per metric, source and item of the window, in the registry's order."""
        for metric in self.settings.metrics:
            for source in metric.sources:
                due = self.settings.due(metric, source, self.view.window)
                if due and self.takes(source):
                    yield from self._of_source(metric, source, pane, clock_ms)

    def _of_source(
        self, metric: Metric, source: Source, pane: pb.Pane, clock_ms: int
    ) -> Iterator[pb.Result]:
        view = self.view
        try:
            computed = self._computed(metric, source)
        except DecodeError:
            _log.exception(
                "window %d of run %s: %s cannot be read", view.window, view.run, metric.name
            )
            return
        for place, item in enumerate(computed.items):
            found = computed.found.get(place, {}).get(metric.name)
            reason = item.undefined or ("input" if item.value is None else "error")
            estimate = found or _missing(metric, source, reason)
            yield result_message(
                view,
                metric.name,
                computed.labels[place],
                estimate,
                item.completeness,
                pane,
                clock_ms,
            )

    def _computed(self, metric: Metric, source: Source) -> Computed:
        if not source.family:
            return self._compute(metric, source, f"{metric.name}|{source.estimator}")
        if source.family not in self._shared:
            self._shared[source.family] = self._compute(metric, source, source.family)
        return self._shared[source.family]

    def _compute(self, metric: Metric, source: Source, name: str) -> Computed:
        items = source.need.gather(self.view)
        labels = [sorted_labels(_labels_of(metric, source, item)) for item in items]
        present = [place for place, item in enumerate(items) if item.value is not None]
        seeded = source.family or metric.name
        remembered = [
            self.memory.recall(name, labels[p]) if source.remembers else {} for p in present
        ]
        context = Context(
            self.settings.device,
            [seed_of(self.view, seeded, labels[place]) for place in present],
            source.options,
            remembered,
        )
        values = _estimates([items[place].value for place in present], metric, source, context)
        for place, arrays in zip(present, remembered, strict=True):
            self.memory.keep(name, labels[place], arrays)
        return Computed(items, labels, dict(zip(present, values, strict=True)))


def _missing(metric: Metric, source: Source, reason: str) -> Estimate:
    return Estimate.missing(
        reason,
        unit=metric.unit,  # type: ignore[arg-type]
        n=0,
        estimator=source.estimator,
        version=1,
    )


def _labels_of(metric: Metric, source: Source, item: Item[Any]) -> dict[str, str]:
    labels = dict(item.labels)
    if "estimator" in metric.labels:
        labels["estimator"] = source.estimator
    return labels


def _estimates(
    inputs: Sequence[Any], metric: Metric, source: Source, context: Context
) -> Sequence[Mapping[str, Estimate]]:
    """Compute; a defect in one estimator must cost its own metric only, never the collector."""
    if not inputs:
        return []
    try:
        return estimates_by_metric(metric, source, inputs, context)
    except Exception:  # noqa: BLE001 - see above
        _log.exception("estimator %s of %s failed", source.estimator, metric.name)
        for remembered in context.memory:
            remembered.clear()
        return [{}] * len(inputs)


def estimates_by_metric(
    metric: Metric, source: Source, inputs: Sequence[Any], context: Context
) -> Sequence[Mapping[str, Estimate]]:
    """Return what a source finds, by name of metric, one mapping per input."""
    answers = source.compute(inputs, context)
    if source.family:
        return answers  # type: ignore[return-value]
    return [{metric.name: answer} for answer in answers]  # type: ignore[dict-item]


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
