"""Conducts the demo: starts the pipeline and the job, follows both, reports and ends everything."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from infoplane.cli.child import Child
from infoplane.cli.demo.acting import prepare_acting
from infoplane.cli.demo.display import Display
from infoplane.cli.demo.observation import Observation
from infoplane.cli.demo.options import RANKS, DemoOptions
from infoplane.cli.demo.plan import WINDOW_STEPS
from infoplane.cli.demo.ranks import start_ranks
from infoplane.cli.demo.recording import record_run
from infoplane.cli.demo.report import report_of
from infoplane.cli.demo.status import StatusReader
from infoplane.cli.pipeline import InterruptedStart, Pipeline, PipelineOptions
from infoplane.cli.reading import TopicReader
from infoplane.cli.signals import StopSignal
from infoplane.collector.settings import KafkaSection, load_settings
from infoplane.wire.errors import InfoplaneError
from infoplane.wire.topics import AUDIT, RESULTS, VERDICTS, WINDOWS

_SETTLE_S: Final = 60.0  # for the last windows to become final
_LAST_WORDS_S: Final = 2.0  # for verdicts on the last window
_ACTED_S: Final = 10.0  # for the last rank to say that it applied a command
_POLL_MS: Final = 100
_CHECK_EVERY_S: Final = 1.0


class IncompleteDemoError(InfoplaneError):
    """The job ended, but its last windows did not become final in time."""


class Conductor:
    """One demo, from start to end. `run` once."""

    def __init__(self, options: DemoOptions, stop: StopSignal) -> None:
        self._options = options
        self._stop = stop
        stamp = time.strftime("%H%M%S", time.gmtime())
        self._seen = Observation(f"demo-{options.fault or 'healthy'}-seed{options.seed}-{stamp}")
        self._display = Display()
        self._steps = options.steps
        self._fault_step: int | None = None
        self._next_check = 0.0
        self._job_environment: dict[str, str] = {}

    def run(self, on_report: Callable[[dict[str, Any]], None]) -> None:
        """Run the demo and hand its report to `on_report`; returns early if the stop signal comes.

        Raises:
            InfoplaneError: a part failed; the message says which, and where its log is.
        """
        # A broker that others use gets topics of our own, so that its collectors do not take our work.
        own = f"infoplane.{self._seen.run}." if self._options.bootstrap else "infoplane."
        options = PipelineOptions(self._options.bootstrap, own, self._options.page_port())
        with Pipeline(options) as pipeline:
            if self._options.act:
                acting = prepare_acting(pipeline.directory)
                pipeline.extra["controller"] = acting.controller
                self._job_environment = acting.job
            with self._display:
                try:
                    pipeline.start(self._stop, self._display.say)
                except InterruptedStart:
                    return
                self._display.page = pipeline.page
                self._display.say(f"page: {pipeline.page}")
                kafka = load_settings(
                    kafka={"bootstrap_servers": pipeline.bootstrap, "topic_prefix": own}
                ).kafka
                self._follow(pipeline, kafka)
            if self._stop.is_set():
                return
            on_report(report_of(self._seen, self._fault_step, pipeline.page))
            self._afterwards(pipeline, kafka)

    def _follow(self, pipeline: Pipeline, kafka: KafkaSection) -> None:
        reader = TopicReader(kafka, (WINDOWS, RESULTS, VERDICTS, AUDIT))
        try:
            job = self._start_job(pipeline)
            status = StatusReader(pipeline.directory / "status.jsonl")
            while not self._stop.is_set() and job.code is None:
                self._turn(pipeline, reader, status)
            if self._stop.is_set():
                return
            pipeline.children.remove(job)
            if job.code != 0:
                raise job.failure(f"ended with code {job.code}")
            self._wait_for_last_windows(pipeline, reader, status)
            self._wait_for_ranks(pipeline, reader, status)
        finally:
            reader.close()

    def _start_job(self, pipeline: Pipeline) -> Child:
        arguments = self._options.job_arguments(pipeline.directory / "status.jsonl")
        environment = {"INFOPLANE_RUN": self._seen.run, **self._job_environment}
        return start_ranks(pipeline, "infoplane.cli.demo.job", arguments, environment)

    def _turn(self, pipeline: Pipeline, reader: TopicReader, status: StatusReader) -> None:
        """Take in what came, redraw, and see that all parts are alive."""
        for read in reader.poll(_POLL_MS):
            self._seen.add(read.message())
        for line in status.new_lines():
            self._steps = line.get("steps", self._steps)
            self._fault_step = line.get("fault_step", self._fault_step)
            self._display.take_status(line)
        self._display.update(self._seen)
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + _CHECK_EVERY_S
            for child in pipeline.children:
                if child.name != "training":  # its end is awaited
                    child.check()

    def _wait_for_last_windows(
        self, pipeline: Pipeline, reader: TopicReader, status: StatusReader
    ) -> None:
        deadline = time.monotonic() + _SETTLE_S
        wanted = set(range((self._steps - 1) // WINDOW_STEPS + 1))
        while not (wanted <= self._seen.closed and wanted <= set(self._seen.final)):
            self._turn(pipeline, reader, status)
            if self._stop.is_set():
                return
            if time.monotonic() > deadline:
                missing = sorted(wanted - (self._seen.closed & set(self._seen.final)))
                raise IncompleteDemoError(
                    f"windows {missing} are not final {_SETTLE_S:.0f} s after the job; "
                    f"logs in {pipeline.directory}"
                )
        until = time.monotonic() + _LAST_WORDS_S
        while time.monotonic() < until and not self._stop.is_set():
            self._turn(pipeline, reader, status)

    def _wait_for_ranks(
        self, pipeline: Pipeline, reader: TopicReader, status: StatusReader
    ) -> None:
        """Wait until every rank has said what became of a command that was sent; it may have come too late."""
        deadline = time.monotonic() + _ACTED_S
        while self._seen.is_acting(RANKS) and time.monotonic() < deadline:
            if self._stop.is_set():
                return
            self._turn(pipeline, reader, status)

    def _afterwards(self, pipeline: Pipeline, kafka: KafkaSection) -> None:
        if self._options.record is not None:
            path = record_run(kafka, self._seen.run, self._options.record)
            self._display.say(f"log for `infoplane replay`: {path}")
        if self._options.keep_open:
            self._display.say(f"page: {pipeline.page} (Ctrl-C ends)")
            while not self._stop.wait(1.0):
                pipeline.check()
