"""What the collector says of itself, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from infoplane.collector.drivers.partition import Partition
from infoplane.wire import ConfigurationError


class PipelineMetrics:
    """Counters of the stages of this process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.messages = Gauge(
            "infoplane_pipeline_read_messages",
            "Messages that a stage has read since it got its partitions.",
            ["stage"],
            registry=self.registry,
        )
        self.dead = Gauge(
            "infoplane_pipeline_dead_messages",
            "Messages that a stage could not read since it got its partitions.",
            ["stage"],
            registry=self.registry,
        )
        self.ignored = Gauge(
            "infoplane_pipeline_ignored_messages",
            "Messages that a stage left out since it got its partitions: duplicates, too late, stale attempts.",
            ["stage", "reason"],
            registry=self.registry,
        )
        self.sent = Counter(
            "infoplane_pipeline_sent_messages_total",
            "Messages that a stage has published.",
            ["stage"],
            registry=self.registry,
        )
        self.restarts = Counter(
            "infoplane_pipeline_restarts_total",
            "Times that a stage began again after its broker failed.",
            ["stage"],
            registry=self.registry,
        )

    def observe(self, stage: str, partitions: Iterable[Partition[Any]], sent: int) -> None:
        """Take over the counts of a stage's partitions."""
        partitions = list(partitions)
        self.messages.labels(stage).set(sum(one.messages for one in partitions))
        self.dead.labels(stage).set(sum(one.dead for one in partitions))
        if sent:
            self.sent.labels(stage).inc(sent)
        ignored: dict[str, int] = {}
        for one in partitions:
            for keyed in one.machines.values():
                for reason, count in keyed.machine.counts.items():
                    ignored[reason] = ignored.get(reason, 0) + count
        for reason, count in ignored.items():
            self.ignored.labels(stage, reason).set(count)

    @contextmanager
    def served(self, host: str, port: int) -> Iterator[None]:
        """Serve /metrics on `host`:`port` meanwhile; port 0 = do not.

        Raises:
            ConfigurationError: the port cannot be had.
        """
        if port == 0:
            yield
            return
        try:
            server, thread = start_http_server(port, host, self.registry)
        except OSError as error:
            raise ConfigurationError(
                "pipeline.metrics_port", port, f"a free port ({error})"
            ) from None
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
