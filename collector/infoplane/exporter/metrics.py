"""The store as Prometheus sees it: a custom collector, so that ended runs and series vanish by themselves.

Labels are those of the registry plus `run`; never rank, step or host. Samples carry no timestamps, because those
would switch Prometheus's staleness marking off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from prometheus_client import Metric as Family
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from infoplane.collector.metrics import METRICS, Metric
from infoplane.exporter.admission import REASONS as REFUSALS
from infoplane.exporter.families import COMPANIONS, PREFIX, RUN, label_names, name_of
from infoplane.exporter.feed import FeedStatus
from infoplane.exporter.points import Point
from infoplane.exporter.store import Snapshot, Store
from infoplane.wire.frame import REASONS as DECODE_REASONS

Rows = list[tuple[list[str], Point]]
_EXPORTER: Final = f"{PREFIX}exporter_"


class StoreCollector(Collector):
    """Turns a snapshot of the live runs into metric families; about 10 us a series."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> Iterable[Family]:
        """Return nothing: what is exported depends on the runs, and registering must not collect."""
        return []

    def collect(self) -> Iterator[Family]:
        """Yield the families of every metric that a live run has, and what is known about the runs."""
        live = [one for one in self._store.snapshots() if one.live]
        rows = _rows_by_metric(live)
        for metric in METRICS:
            yield from _metric_families(metric, rows.get(metric.name, []))
        yield _undefined(live)
        yield from _run_families(live)
        yield _rejected(live)
        yield _verdicts(live)
        yield _interventions(live)


def _rows_by_metric(live: list[Snapshot]) -> dict[str, Rows]:
    names = {metric.name: metric.labels for metric in METRICS}
    rows: dict[str, Rows] = {}
    for snapshot in live:
        for series, point in snapshot.series:
            if point.undefined:
                continue
            values = dict(series.labels)
            labels = [snapshot.run, *(values.get(name, "") for name in names[series.metric])]
            rows.setdefault(series.metric, []).append((labels, point))
    return rows


def _metric_families(metric: Metric, rows: Rows) -> Iterator[Family]:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = kind(name_of(metric), metric.help, labels=label_names(metric))
    for labels, point in rows:
        family.add_metric(labels, point.value)
    yield family
    for companion in COMPANIONS if metric.kind == "gauge" else ():
        found = [(labels, companion.read(point)) for labels, point in rows]
        beside = GaugeMetricFamily(
            companion.name_for(metric),
            f"{name_of(metric)}: {companion.help}.",
            labels=label_names(metric),
        )
        for labels, value in found:
            if value is not None:
                beside.add_metric(labels, value)
        if beside.samples:
            yield beside


def _undefined(live: list[Snapshot]) -> Family:
    family = GaugeMetricFamily(
        f"{PREFIX}undefined_results",
        "Series whose newest window gave no value, by metric and reason.",
        labels=[RUN, "metric", "reason"],
    )
    for snapshot in live:
        counts = Counter(
            (series.metric, point.undefined) for series, point in snapshot.series if point.undefined
        )
        for (metric, reason), count in sorted(counts.items()):
            family.add_metric([snapshot.run, metric, reason], count)
    return family


def _run_families(live: list[Snapshot]) -> Iterator[Family]:
    info = InfoMetricFamily(f"{PREFIX}run", "The attempt that a run is in.", labels=[RUN])
    step = _per_run("training_step", "Last step of the newest window.")
    clock = _per_run(
        "last_window_end_timestamp_seconds",
        "Clock of the newest window in the time of the training job, Unix seconds.",
    )
    heard = _per_run("last_update_timestamp_seconds", "When a run was last heard of, Unix seconds.")
    held = _per_run("series", "Series that the exporter holds for a run.")
    for one in live:
        heard.add_metric([one.run], one.heard_s)
        held.add_metric([one.run], one.num_series)
        if one.newest is not None:
            info.add_metric([one.run], {"attempt": str(one.newest.attempt)})
            step.add_metric([one.run], one.newest.last_step)
            clock.add_metric([one.run], one.newest.clock_s)
    yield from (info, step, clock, heard, held)


def _per_run(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, labels=[RUN])


def _rejected(live: list[Snapshot]) -> Family:
    family = CounterMetricFamily(
        f"{PREFIX}series_rejected_total",
        "Results that were refused: series cap reached, unknown metric, labels not allowed.",
        labels=[RUN, "reason"],
    )
    for snapshot in live:
        for reason in REFUSALS:
            family.add_metric([snapshot.run, reason], snapshot.rejected.get(reason, 0))
    return family


def _verdicts(live: list[Snapshot]) -> Family:
    family = CounterMetricFamily(
        f"{PREFIX}verdicts_total",
        "Verdicts that the detectors raised, each counted once.",
        labels=[RUN, "detector", "severity", "metric"],
    )
    for snapshot in live:
        for key, count in sorted(snapshot.verdict_counts.items()):
            family.add_metric([snapshot.run, *key], count)
    return family


def _interventions(live: list[Snapshot]) -> Family:
    family = CounterMetricFamily(
        f"{PREFIX}interventions_total",
        "Interventions that reached a stage: proposed, sent, refused, applied, failed; each counted once a stage.",
        labels=[RUN, "action", "mode", "stage"],
    )
    for snapshot in live:
        for key, count in sorted(snapshot.intervention_counts.items()):
            family.add_metric([snapshot.run, *key], count)
    return family


class Reader(Protocol):
    """What reads the topics: the feed."""

    def status(self) -> FeedStatus:
        """Return how the reading goes."""
        ...


class FeedCollector(Collector):
    """How the exporter itself is doing."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def describe(self) -> Iterable[Family]:
        """Return nothing, as above."""
        return []

    def collect(self) -> Iterator[Family]:
        """Yield the self-metrics; known reasons start at 0."""
        status = self._reader.status()
        yield _counts("messages_total", "Messages read from the topics.", "topic", status.messages)
        errors = {**dict.fromkeys(sorted(DECODE_REASONS), 0), **status.errors}
        yield _counts(
            "decode_errors_total", "Messages that could not be read, by reason.", "reason", errors
        )
        dead = CounterMetricFamily(
            f"{PREFIX}dead_letters_total",
            "Messages that a stage of the pipeline could not read, by reason; kept on the topic `dead`.",
            labels=["reason"],
        )
        for reason, count in {**dict.fromkeys(sorted(DECODE_REASONS), 0), **status.dead}.items():
            dead.add_metric([reason], count)
        yield dead
        yield CounterMetricFamily(
            f"{_EXPORTER}reconnects_total",
            "Times that the exporter lost or did not find its broker.",
            value=status.reconnects,
        )
        yield GaugeMetricFamily(
            f"{_EXPORTER}connected", "1 while the broker answers.", value=float(status.connected)
        )
        yield GaugeMetricFamily(
            f"{_EXPORTER}missing_topics",
            "Topics that the exporter waits for.",
            value=len(status.missing),
        )


def _counts(name: str, text: str, label: str, values: dict[str, int]) -> Family:
    family = CounterMetricFamily(_EXPORTER + name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
