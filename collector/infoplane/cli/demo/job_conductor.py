"""Conducts a demo: starts the pipeline and a job, follows both, reports and ends everything."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from infoplane.cli.child import Child
from infoplane.cli.demo.live_lines import LiveLines
from infoplane.cli.demo.options import SharedOptions
from infoplane.cli.demo.recording import record_run
from infoplane.cli.demo.status import StatusReader
from infoplane.cli.pipeline import InterruptedStart, Pipeline, PipelineOptions
from infoplane.cli.reading import TopicReader
from infoplane.cli.signals import StopSignal
from infoplane.collector.settings import KafkaSection, load_settings
from infoplane.wire.errors import InfoplaneError
from infoplane.wire.topics import Topic

_POLL_MS: Final = 100
_CHECK_EVERY_S: Final = 1.0
Turn = Callable[[], None]


class IncompleteDemoError(InfoplaneError):
    """The job ended, but its last windows did not become final in time."""


class Observes(Protocol):
    """Gathers what the topics say of one demo."""

    @property
    def run(self) -> str:
        """Name of the run, or what the names of its runs begin with."""
        ...

    def add(self, message: Message | None) -> None:
        """Take in one message."""
        ...


S = TypeVar("S", bound=Observes)


class JobConductor(ABC, Generic[S]):
    """One demo, from start to end. `run` once.

    Args:
        options: what both demos let the user choose.
        seen: gathers what the topics say.
        display: shows it.
        topics: that are followed.
        stop: ends it early.
    """

    def __init__(
        self,
        options: SharedOptions,
        seen: S,
        display: LiveLines[S],
        topics: Sequence[Topic],
        stop: StopSignal,
    ) -> None:
        self._shared = options
        self._seen = seen
        self._display = display
        self._topics = topics
        self._stop = stop
        self._next_check = 0.0

    def run(self, on_report: Callable[[dict[str, Any]], None]) -> None:
        """Run the demo and hand its report to `on_report`; returns early if the stop signal comes.

        Raises:
            InfoplaneError: a part failed; the message says which, and where its log is.
        """
        # A broker that others use gets topics of our own, so that its collectors do not take our work.
        own = f"infoplane.{self._seen.run}." if self._shared.bootstrap else "infoplane."
        options = PipelineOptions(self._shared.bootstrap, own, self._shared.page_port())
        with Pipeline(options) as pipeline:
            self.prepare(pipeline)
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
            on_report(self.report(pipeline.page))
            self._afterwards(pipeline, kafka)

    # ---------------------------------------------------------------- what differs

    @abstractmethod
    def prepare(self, pipeline: Pipeline) -> None:
        """Say what the services get besides the usual, before they start."""

    @abstractmethod
    def start_job(self, pipeline: Pipeline, status: Path) -> Child:
        """Start the job; it writes its progress to `status`."""

    @abstractmethod
    def settle(self, turn: Turn, directory: Path) -> None:
        """Turn until the job's last windows are in, or the stop signal comes.

        Raises:
            IncompleteDemoError: not in time.
        """

    @abstractmethod
    def report(self, page: str) -> dict[str, Any]:
        """Return what is reported at the end."""

    def runs(self) -> Iterable[str]:
        """Return the names of the runs to record."""
        return (self._seen.run,)

    def take_status(self, line: dict[str, Any]) -> None:
        """Take in one status line of the job."""
        self._display.take_status(line)

    # ---------------------------------------------------------------- what is shared

    def turn_until(self, is_done: Callable[[], bool], limit_s: float, turn: Turn) -> bool:
        """Turn until `is_done`, the stop signal or the limit; return False only for the limit."""
        deadline = time.monotonic() + limit_s
        while not is_done():
            if time.monotonic() > deadline:
                return False
            turn()
            if self._stop.is_set():
                break
        return True

    def _follow(self, pipeline: Pipeline, kafka: KafkaSection) -> None:
        reader = TopicReader(kafka, self._topics)
        try:
            path = pipeline.directory / "status.jsonl"
            job = self.start_job(pipeline, path)
            turn = partial(self._turn, pipeline, reader, StatusReader(path), job)
            while not self._stop.is_set() and job.code is None:
                turn()
            if self._stop.is_set():
                return
            pipeline.children.remove(job)
            if job.code != 0:
                raise job.failure(f"ended with code {job.code}")
            self.settle(turn, pipeline.directory)
        finally:
            reader.close()

    def _turn(
        self, pipeline: Pipeline, reader: TopicReader, status: StatusReader, job: Child
    ) -> None:
        """Take in what came, redraw, and see that all parts are alive."""
        for read in reader.poll(_POLL_MS):
            self._seen.add(read.message())
        for line in status.new_lines():
            self.take_status(line)
        self._display.update(self._seen)
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + _CHECK_EVERY_S
            for child in pipeline.children:
                if child is not job:  # its end is awaited
                    child.check()

    def _afterwards(self, pipeline: Pipeline, kafka: KafkaSection) -> None:
        if self._shared.record is not None:
            for run in self.runs():
                path = record_run(kafka, run, self._shared.record)
                self._display.say(f"log for `infoplane replay`: {path}")
        if self._shared.keep_open:
            self._display.say(f"page: {pipeline.page} (Ctrl-C ends)")
            while not self._stop.wait(1.0):
                pipeline.check()
