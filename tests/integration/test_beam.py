"""The same core as a bounded Beam pipeline gives what the replay gives."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from infoplane.collector.assemble.machine import assemble_stage
from infoplane.collector.drivers.replay import replay
from infoplane.collector.estimate.machine import estimate_stage
from infoplane.collector.testing import SyntheticRun, comparable_results
from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import LogWriter, read_log
from infoplane.wire.topics import RESULTS

pytestmark = pytest.mark.integration

# In a process of its own: Beam's import warns, and its runner keeps threads.
PIPELINE = """
import sys
from pathlib import Path

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from infoplane.collector.assemble.machine import assemble_stage
from infoplane.collector.drivers.beam import replay_log
from infoplane.collector.estimate.machine import estimate_stage
from infoplane.wire.log import LogEntry, LogWriter

written, *logs = map(Path, sys.argv[1:])


class Write(beam.DoFn):
    def process(self, grouped):
        writer = LogWriter(written)
        for entry in sorted(grouped[1], key=lambda entry: entry.offset):
            writer.append(entry)
        writer.flush()
        writer.close()
        yield len(grouped[1])


with beam.Pipeline(runner=FnApiRunner()) as pipeline:
    (
        replay_log(pipeline, logs, [assemble_stage, estimate_stage])
        | beam.Map(lambda entry: (0, entry))
        | beam.GroupByKey()
        | beam.ParDo(Write())
    )
"""


def test_beam_equals_replay(tmp_path: Path, require) -> None:
    require(
        "beam", importlib.util.find_spec("apache_beam") is not None, "apache-beam is not installed"
    )
    log = SyntheticRun(steps=32, rows=16).log()
    halves = [tmp_path / "a.iplog", tmp_path / "b.iplog"]
    for path, part in zip(halves, (log[::2], log[1::2]), strict=True):
        writer = LogWriter(path)
        for entry in part:
            writer.append(entry)
        writer.flush()
        writer.close()
    written = tmp_path / "out.iplog"
    script = tmp_path / "pipeline.py"
    script.write_text(PIPELINE)
    done = subprocess.run(
        [sys.executable, str(script), str(written), *map(str, halves)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = [
        decode(entry.value, pb.Result)
        for entry in read_log(written)
        if entry.topic.endswith(RESULTS.name)
    ]
    wanted = [
        e.message for e in replay(log, [assemble_stage(), estimate_stage()]) if e.topic is RESULTS
    ]
    assert len(wanted) > 100
    assert comparable_results(found) == comparable_results(wanted)
