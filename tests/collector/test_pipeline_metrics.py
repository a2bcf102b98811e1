"""What a stage's process says of itself."""

from __future__ import annotations

import socket
from urllib.request import urlopen

import pytest

from infoplane.collector.assemble.machine import assemble_stage
from infoplane.collector.drivers.partition import Partition
from infoplane.collector.drivers.pipeline_metrics import PipelineMetrics
from infoplane.collector.testing import SyntheticRun
from infoplane.wire import ConfigurationError


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_counts_are_served() -> None:
    partition = Partition(assemble_stage(), 0)
    log = SyntheticRun(steps=8).log()
    for entry in [*log[:20], log[0]]:
        list(partition.feed(entry))
    metrics = PipelineMetrics()
    metrics.observe("assemble", [partition], 3)
    port = free_port()
    with metrics.served("127.0.0.1", port):
        text = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    assert 'infoplane_pipeline_read_messages{stage="assemble"} 21.0' in text
    assert 'infoplane_pipeline_sent_messages_total{stage="assemble"} 3.0' in text
    assert 'infoplane_pipeline_ignored_messages{reason="duplicate",stage="assemble"} 1.0' in text


def test_no_port_serves_nothing() -> None:
    with PipelineMetrics().served("127.0.0.1", 0):
        pass


def test_a_taken_port_is_a_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ConfigurationError, match=rf"pipeline.metrics_port = {port}"),
            PipelineMetrics().served("127.0.0.1", port),
        ):
            pass
