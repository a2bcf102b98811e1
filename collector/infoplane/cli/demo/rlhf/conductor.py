"""Conducts the preference demo: starts the pipeline and the job, follows both, reports and ends everything."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from infoplane.cli.child import Child
from infoplane.cli.demo.ranks import start_ranks
from infoplane.cli.demo.recording import record_run
from infoplane.cli.demo.rlhf.display import RlhfDisplay
from infoplane.cli.demo.rlhf.observation import PREFERENCES, ROLLOUTS, RlhfObservation
from infoplane.cli.demo.rlhf.options import RlhfOptions
from infoplane.cli.demo.rlhf.plan import RlhfPlan
from infoplane.cli.demo.rlhf.report import INCONSISTENCY, report_of
from infoplane.cli.demo.status import StatusReader
from infoplane.cli.pipeline import InterruptedStart, Pipeline, PipelineOptions
from infoplane.cli.reading import TopicReader
from infoplane.cli.signals import StopSignal
from infoplane.collector.settings import KafkaSection, load_settings
from infoplane.wire.errors import InfoplaneError
from infoplane.wire.topics import RESULTS, VERDICTS

_SETTLE_S: Final = 90.0  # for the last windows to become final
_EVENT_IDLE_S: Final = "5"
_POLL_MS: Final = 100
_CHECK_EVERY_S: Final = 1.0


class MissingWindowsError(InfoplaneError):
    """The job ended, but its last windows gave no results in time."""


class RlhfConductor:
    """One preference demo, from start to end. `run` once."""

    def __init__(self, options: RlhfOptions, stop: StopSignal) -> None:
        self._options = options
        self._plan = RlhfPlan(options.steps)
        self._stop = stop
        stamp = time.strftime("%H%M%S", time.gmtime())
        self._seen = RlhfObservation(f"demo-rlhf-seed{options.seed}-{stamp}")
        self._display = RlhfDisplay()
        self._next_check = 0.0

    def run(self, on_report: Callable[[dict[str, Any]], None]) -> None:
        """Run the demo and hand its report to `on_report`; returns early if the stop signal comes.

        Raises:
            InfoplaneError: a part failed; the message says which, and where its log is.
        """
        # A broker that others use gets topics of our own, so that its collectors do not take our work.
        own = f"infoplane.{self._seen.run}." if self._options.bootstrap else "infoplane."
        options = PipelineOptions(self._options.bootstrap, own, self._options.page_port())
        with Pipeline(options) as pipeline:
            # A stream's last window closes by silence: nobody should wait 15 s for it at the end.
            pipeline.extra["collector"] = {"INFOPLANE_ASSEMBLE__EVENT_IDLE_S": _EVENT_IDLE_S}
            with self._display:
                try:
                    pipeline.start(self._stop, self._display.say)
                except InterruptedStart:
                    return
                self._display.say(f"page: {pipeline.page}")
                kafka = load_settings(
                    kafka={"bootstrap_servers": pipeline.bootstrap, "topic_prefix": own}
                ).kafka
                self._follow(pipeline, kafka)
            if self._stop.is_set():
                return
            on_report(report_of(self._seen, self._plan.planted_step, pipeline.page))
            self._afterwards(pipeline, kafka)

    def _follow(self, pipeline: Pipeline, kafka: KafkaSection) -> None:
        reader = TopicReader(kafka, (RESULTS, VERDICTS))
        try:
            path = pipeline.directory / "status.jsonl"
            # Not --run: torchrun takes that for the beginning of an option of its own.
            options = ["--name", self._seen.run, "--steps", str(self._options.steps)]
            options += ["--seed", str(self._options.seed), "--status", str(path)]
            job = start_ranks(pipeline, "infoplane.cli.demo.rlhf.job", options, {})
            status = StatusReader(path)
            while not self._stop.is_set() and job.code is None:
                self._turn(pipeline, reader, status, job)
            if self._stop.is_set():
                return
            pipeline.children.remove(job)
            if job.code != 0:
                raise job.failure(f"ended with code {job.code}")
            self._wait_for_last_windows(pipeline, reader, status, job)
        finally:
            reader.close()

    def _turn(
        self, pipeline: Pipeline, reader: TopicReader, status: StatusReader, job: Child
    ) -> None:
        """Take in what came, redraw, and see that all parts are alive."""
        for read in reader.poll(_POLL_MS):
            self._seen.add(read.message())
        for line in status.new_lines():
            self._display.take_status(line)
        self._display.update(self._seen)
        if time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + _CHECK_EVERY_S
            for child in pipeline.children:
                if child is not job:  # its end is awaited
                    child.check()

    def _wait_for_last_windows(
        self, pipeline: Pipeline, reader: TopicReader, status: StatusReader, job: Child
    ) -> None:
        deadline = time.monotonic() + _SETTLE_S
        while missing := self._missing():
            if time.monotonic() > deadline:
                raise MissingWindowsError(
                    f"no results of the last window of {', '.join(missing)} {_SETTLE_S:.0f} s after "
                    f"the job; logs in {pipeline.directory}"
                )
            self._turn(pipeline, reader, status, job)
            if self._stop.is_set():
                return

    def _missing(self) -> list[str]:
        """Return the streams whose last window has no results yet."""
        ends = {"reward": self._plan.last_reward_step, "policy": self._plan.last_policy_step}
        wanted = (
            (INCONSISTENCY, "reward", PREFERENCES),
            ("training_scalar", "reward", "loss"),
            ("rollout_kl_nats", "policy", ROLLOUTS),
            ("training_scalar", "policy", "true_criterion"),
        )
        return [
            f"{part}/{stream}"
            for metric, part, stream in wanted
            if not self._seen.has(metric, f"{part}/{stream}", ends[part])
        ]

    def _afterwards(self, pipeline: Pipeline, kafka: KafkaSection) -> None:
        if self._options.record is not None:
            for run in self._seen.runs:
                path = record_run(kafka, run, self._options.record)
                self._display.say(f"log for `infoplane replay`: {path}")
        if self._options.keep_open:
            self._display.say(f"page: {pipeline.page} (Ctrl-C ends)")
            while not self._stop.wait(1.0):
                pipeline.check()
