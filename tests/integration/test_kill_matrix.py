"""Kill matrix: each part of the chain is killed, or stopped for 20 s, while a two-rank job trains.

In every cell the loss curve and the parameters are those of an undisturbed job, bit by bit; the last panes and
results are those of a replay of the log; and what is missing from the log was counted. Cells run on Apache Kafka,
whose log survives the broker. A cell takes about two minutes, so these tests run only where INFOPLANE_KILL_MATRIX=1, as
`make kill-matrix` sets it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from apache_kafka import ApacheKafka, why_not
from rank_processes import rank_environment

from infoplane.cli.pipeline import Pipeline, PipelineOptions
from infoplane.cli.reading import TopicReader
from infoplane.cli.signals import StopSignal
from infoplane.cli.stages import collector_stages, controller_stages
from infoplane.collector.drivers.replay import replay
from infoplane.collector.settings import KafkaSection, load_settings
from infoplane.collector.testing import comparable_results
from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import LogEntry
from infoplane.wire.topics import (
    DEAD,
    EVENTS,
    LATEST,
    RECORDS,
    RESULTS,
    VERDICTS,
    WINDOWS,
    Topic,
)  # fmt: skip

STEPS, PACE_S = 160, 0.25
DISTURB_AT = 48
STOPPED_S = 20.0
DOWN_S = 2.0
QUIET_S = 8.0
SETTLE_S = 120.0
PARTS = ("broker", "collector", "exporter", "controller")
CELLS = [(part, way) for part in PARTS for way in ("SIGKILL", "SIGSTOP")]
UNCONFIRMED = 64  # messages in requests on their way, of two ranks

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(420),
    pytest.mark.skipif(
        not os.environ.get("INFOPLANE_KILL_MATRIX"), reason="see `make kill-matrix`"
    ),
]
# The last metric of a window of the taps, and one of a window of the events.
LAST = ("agent_sent_bytes_total", "preference_cyclic_inconsistency_ratio")


@dataclass
class Cell:
    """What one cell left behind."""

    name: tuple[str, str]
    ranks: list[dict[str, Any]]
    entries: dict[str, list[LogEntry]]
    exported: str

    def messages(self, topic: Topic, kind: type[Any]) -> list[Any]:
        return [decode(entry.value, kind) for entry in self.entries[topic.name]]


def _start_job(folder: Path, pace_s: float, **own: str) -> subprocess.Popen[bytes]:
    worker = Path(__file__).with_name("matrix_job.py")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        str(worker), str(folder), str(STEPS), str(pace_s),
    ]  # fmt: skip
    with (folder / "job.log").open("wb") as log:
        return subprocess.Popen(command, env=rank_environment(**own), stdout=log, stderr=log)


def _results_of(job: subprocess.Popen[bytes], folder: Path) -> list[dict[str, Any]]:
    files = [folder / f"result-{rank}.json" for rank in range(2)]
    # Native threads may abort the interpreter's exit after a good run, so the files are the judge.
    assert all(file.exists() for file in files), (folder / "job.log").read_text()[-4000:]
    return [json.loads(file.read_text()) for file in files]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, require: Any) -> list[dict[str, Any]]:
    """The job alone, with nobody to send to."""
    require("deepspeed", find_spec("deepspeed") is not None, "DeepSpeed is not installed")
    folder = tmp_path_factory.mktemp("undisturbed")
    job = _start_job(folder, 0.0, INFOPLANE_ENABLED="0")
    job.wait(180)
    return _results_of(job, folder)


@pytest.fixture
def kafka(tmp_path: Path, require: Any) -> Iterator[ApacheKafka]:
    reason = why_not()
    require("kafka", not reason, reason)
    folder = tmp_path / "kafka"
    folder.mkdir()
    with ApacheKafka(folder) as broker:
        yield broker


def _disturb(part: str, way: str, pipeline: Pipeline, broker: ApacheKafka) -> None:
    """Kill and start again, as a supervisor would; or stop for a while."""
    if part == "broker":
        if way == "SIGKILL":
            broker.kill()
            time.sleep(DOWN_S)
            broker.start()
        else:
            _stop_for(lambda number: broker.signal(number))
        return
    child = next(child for child in pipeline.children if child.name == part)
    if way == "SIGKILL":
        child.kill()
        pipeline.children.remove(child)
        time.sleep(DOWN_S)
        pipeline._start_service(part)
    else:
        _stop_for(child.signal)


def _stop_for(send: Callable[[signal.Signals], None]) -> None:
    send(signal.SIGSTOP)
    time.sleep(STOPPED_S)
    send(signal.SIGCONT)


def _read_all(kafka: KafkaSection) -> dict[str, list[LogEntry]]:
    """Read all topics until nothing new came for a while and every tap window has its results."""
    topics = (RECORDS, EVENTS, WINDOWS, RESULTS, LATEST, VERDICTS, DEAD)
    found: dict[str, list[LogEntry]] = {topic.name: [] for topic in topics}
    reader = TopicReader(kafka, topics)
    quiet_since = began = time.monotonic()
    try:
        while time.monotonic() - quiet_since < QUIET_S:
            for read in reader.poll(200):
                # Heartbeats ended with the job; states and the like are not read.
                quiet_since = time.monotonic()
                found[read.topic.name].append(read.entry)
            assert time.monotonic() - began < SETTLE_S, "the pipeline does not settle"
    finally:
        reader.close()
    return found


def _await_windows(kafka: KafkaSection, count: int) -> None:
    """Wait until the last window of the taps and that of the events have their results."""
    reader = TopicReader(kafka, (RESULTS,))
    closed: set[tuple[str, int]] = set()
    deadline = time.monotonic() + SETTLE_S
    try:
        while not {(metric, count - 1) for metric in LAST} <= closed:
            for read in reader.poll(200):
                result = read.message()
                assert isinstance(result, pb.Result)
                closed.add((result.metric, result.window))
            assert time.monotonic() < deadline, "the last windows do not close"
    finally:
        reader.close()


@pytest.fixture
def cell(chosen: tuple[str, str], tmp_path: Path, kafka: ApacheKafka, undisturbed: Any) -> Cell:
    part, way = chosen
    prefix = f"{part}.{way.lower()}."
    options = PipelineOptions(bootstrap=kafka.bootstrap, prefix=prefix)
    with Pipeline(options) as pipeline:
        pipeline.start(StopSignal(), lambda message: None)
        own = {
            **pipeline.environment,
            "INFOPLANE_RUN": "matrix",
            "INFOPLANE_SAMPLING__BASE_LEVEL": "0",
            "INFOPLANE_GOVERNOR__ENABLED": "0",
        }
        job = _start_job(tmp_path, PACE_S, **own)
        try:
            _await_step(tmp_path, job, DISTURB_AT)
            _disturb(part, way, pipeline, kafka)
            job.wait(180)
        finally:
            job.kill()
            job.wait()
        ranks = _results_of(job, tmp_path)
        section = load_settings(
            kafka={"bootstrap_servers": kafka.bootstrap, "topic_prefix": prefix}
        )
        _await_windows(section.kafka, STEPS // 8)
        entries = _read_all(section.kafka)
        exported = _scrape(pipeline)
    return Cell(chosen, ranks, entries, exported)


def _await_step(folder: Path, job: subprocess.Popen[bytes], step: int) -> None:
    deadline = time.monotonic() + 120
    progress = folder / "step-0"
    while not progress.exists() or str(step) not in progress.read_text().split():
        is_hopeless = job.poll() is not None or time.monotonic() > deadline
        assert not is_hopeless, (folder / "job.log").read_text()[-3000:]
        time.sleep(0.05)


def _scrape(pipeline: Pipeline) -> str:
    """Return /metrics of the exporter that runs now: after a kill it listens on another port."""
    facts = json.loads(
        next(c for c in pipeline.children if c.name == "exporter")
        .output.read_text()
        .splitlines()[-1]
    )
    with urllib.request.urlopen(f"{facts['page'].rstrip('/')}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("chosen", CELLS, ids=[f"{p}-{w}" for p, w in CELLS])
def test_nothing_is_lost_and_training_does_not_notice(
    cell: Cell, undisturbed: list[dict[str, Any]]
) -> None:
    for rank, control in zip(cell.ranks, undisturbed, strict=True):
        assert rank["losses"] == control["losses"]
        assert rank["parameters"] == control["parameters"]
        assert len(rank["losses"]) == STEPS
    assert not cell.entries[DEAD.name]
    _assert_counted(cell)
    _assert_equal_to_replay(cell)
    _assert_exported(cell)


def _assert_counted(cell: Cell) -> None:
    """Every message, a record or a batch of events, is in the log or was counted as dropped."""
    seen: dict[tuple[int, str], set[int]] = defaultdict(set)
    for record in cell.messages(RECORDS, pb.Record):
        seen[record.coordinates.rank, record.unit].add(record.seq)
    for batch in cell.messages(EVENTS, pb.EventBatch):
        seen[batch.rank, f"events/{batch.stream}"].add(batch.seq)
    present = sum(len(numbers) for numbers in seen.values())
    offered = sum(max(numbers) + 1 for numbers in seen.values())
    dropped = sum(
        value
        for rank in cell.ranks
        for name, value in rank["stats"].items()
        if name.startswith("records_dropped")
    )
    # What was on its way in when the broker stopped is stored once it runs again, but nobody could confirm it in
    # time: it counts as dropped, and is there. Nothing is missing that was not counted.
    lost = offered - present
    assert lost <= dropped <= lost + UNCONFIRMED, (offered, present, dropped)
    if cell.name != ("broker", "SIGSTOP"):
        assert lost == dropped


def _assert_equal_to_replay(cell: Cell) -> None:
    settings = load_settings(
        kafka={"topic_prefix": cell.entries[RECORDS.name][0].topic.removesuffix("records")}
    )
    torch.set_num_threads(1)  # as the services have
    stages = [*collector_stages(settings), *controller_stages(settings)]
    log = [*cell.entries[RECORDS.name], *cell.entries[EVENTS.name]]
    again = list(replay(log, stages, settings.kafka.names))
    panes = [e.message for e in again if e.topic is WINDOWS]
    assert _last_panes(cell.messages(WINDOWS, pb.WindowPane)) == _last_panes(panes)
    live = comparable_results(cell.messages(RESULTS, pb.Result))
    assert live == comparable_results([e.message for e in again if e.topic is RESULTS])
    # A window of which the broker's stop left nothing is not there, in the replay neither.
    said = {record.step // 8 for record in cell.messages(RECORDS, pb.Record) if _has_data(record)}
    said |= {batch.step // 8 for batch in cell.messages(EVENTS, pb.EventBatch)}
    assert {key[0] for key in live} == {str(window) for window in said}
    if cell.name[0] != "broker":
        assert said == set(range(STEPS // 8))
    verdicts = {v.id: v.sentence for v in cell.messages(VERDICTS, pb.Verdict)}
    assert verdicts == {e.message.id: e.message.sentence for e in again if e.topic is VERDICTS}


def _has_data(record: pb.Record) -> bool:
    return record.WhichOneof("body") not in ("heartbeat", "bye")


def _last_panes(panes: list[pb.WindowPane]) -> dict[tuple[str, int, str, int], tuple[Any, ...]]:
    """Last pane of every unit, window and tap: counts and sampled rows."""
    last: dict[tuple[str, int], tuple[int, int]] = {}
    for pane in panes:
        key, order = (pane.unit, pane.window), (pane.pane.kind, pane.pane.index)
        last[key] = max(last.get(key, (0, 0)), order)
    return {
        (pane.unit, pane.window, pane.tap.tap, pane.part): (
            pane.present,
            pane.expected,
            pane.rows_total,
            bytes(pane.row_keys.data),
            pane.events.SerializeToString(deterministic=True),
        )
        for pane in panes
        if last[pane.unit, pane.window] == (pane.pane.kind, pane.pane.index)
    }


def _assert_exported(cell: Cell) -> None:
    """What the exporter shows is the newest value of every series."""
    newest: dict[str, pb.Result] = {}
    for result in cell.messages(LATEST, pb.Result):
        if result.metric == "von_neumann_entropy_nats":
            tap = next(label.value for label in result.labels if label.name == "tap")
            known = newest.get(tap)
            if known is None or result.window >= known.window:
                newest[tap] = result
    assert newest
    for tap, result in newest.items():
        (line,) = [
            line
            for line in cell.exported.splitlines()
            if line.startswith("infoplane_von_neumann_entropy_nats{") and f'tap="{tap}"' in line
        ]
        assert float(line.rsplit(" ", 1)[1]) == pytest.approx(result.value, rel=1e-12)
        assert result.window == STEPS // 8 - 1
