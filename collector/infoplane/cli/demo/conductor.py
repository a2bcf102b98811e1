"""The demo of a fault: what is particular to conducting it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

from infoplane.cli.child import Child
from infoplane.cli.demo.acting import prepare_acting
from infoplane.cli.demo.display import Display
from infoplane.cli.demo.job_conductor import IncompleteDemoError, JobConductor, Turn
from infoplane.cli.demo.observation import Observation
from infoplane.cli.demo.options import RANKS, DemoOptions
from infoplane.cli.demo.plan import WINDOW_STEPS
from infoplane.cli.demo.ranks import start_ranks
from infoplane.cli.demo.report import report_of
from infoplane.cli.pipeline import Pipeline
from infoplane.cli.signals import StopSignal
from infoplane.wire.topics import AUDIT, RESULTS, VERDICTS, WINDOWS

_SETTLE_S: Final = 60.0  # for the last windows to become final
_LAST_WORDS_S: Final = 2.0  # for verdicts on the last window
_ACTED_S: Final = 10.0  # for the last rank to say that it applied a command


class Conductor(JobConductor[Observation]):
    """One demo of a fault, from start to end. `run` once."""

    def __init__(self, options: DemoOptions, stop: StopSignal) -> None:
        stamp = time.strftime("%H%M%S", time.gmtime())
        seen = Observation(f"demo-{options.fault or 'healthy'}-seed{options.seed}-{stamp}")
        super().__init__(options, seen, Display(), (WINDOWS, RESULTS, VERDICTS, AUDIT), stop)
        self._options = options
        self._steps = options.steps
        self._fault_step: int | None = None
        self._job_environment: dict[str, str] = {}

    def prepare(self, pipeline: Pipeline) -> None:
        """Give the controller a policy and the job a key, if it may act."""
        if self._options.act:
            acting = prepare_acting(pipeline.directory)
            pipeline.extra["controller"] = acting.controller
            self._job_environment = acting.job

    def start_job(self, pipeline: Pipeline, status: Path) -> Child:
        """Start the two training ranks."""
        environment = {"INFOPLANE_RUN": self._seen.run, **self._job_environment}
        arguments = self._options.job_arguments(status)
        return start_ranks(pipeline, "infoplane.cli.demo.job", arguments, environment)

    def take_status(self, line: dict[str, Any]) -> None:
        """Take in one status line: the job says how many steps it has time for, and where the fault is."""
        self._steps = line.get("steps", self._steps)
        self._fault_step = line.get("fault_step", self._fault_step)
        super().take_status(line)

    def settle(self, turn: Turn, directory: Path) -> None:
        """Wait for the last windows, for verdicts on them, and for ranks that are about to obey."""
        if not self.turn_until(lambda: not self._missing(), _SETTLE_S, turn):
            raise IncompleteDemoError(
                f"windows {sorted(self._missing())} are not final {_SETTLE_S:.0f} s after the job; "
                f"logs in {directory}"
            )
        if self._stop.is_set():
            return
        self.turn_until(lambda: False, _LAST_WORDS_S, turn)
        # A command that was sent may have come too late for the job.
        self.turn_until(lambda: not self._seen.is_acting(RANKS), _ACTED_S, turn)

    def report(self, page: str) -> dict[str, Any]:
        """Return what is reported at the end."""
        return report_of(self._seen, self._fault_step, page)

    def _missing(self) -> set[int]:
        """Return the windows that are not final in all topics."""
        wanted = set(range((self._steps - 1) // WINDOW_STEPS + 1))
        return wanted - (self._seen.closed & set(self._seen.final))
