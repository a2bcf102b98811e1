"""The preference demo: what is particular to conducting it."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from infoplane.cli.child import Child
from infoplane.cli.demo.job_conductor import IncompleteDemoError, JobConductor, Turn
from infoplane.cli.demo.ranks import start_ranks
from infoplane.cli.demo.rlhf.display import RlhfDisplay
from infoplane.cli.demo.rlhf.observation import PREFERENCES, ROLLOUTS, RlhfObservation
from infoplane.cli.demo.rlhf.options import RlhfOptions
from infoplane.cli.demo.rlhf.plan import RlhfPlan
from infoplane.cli.demo.rlhf.report import INCONSISTENCY, report_of
from infoplane.cli.pipeline import Pipeline
from infoplane.cli.signals import StopSignal
from infoplane.wire.topics import RESULTS, VERDICTS

_SETTLE_S: Final = 90.0  # for the last windows to become final
_EVENT_IDLE_S: Final = "5"


class RlhfConductor(JobConductor[RlhfObservation]):
    """One preference demo, from start to end. `run` once."""

    def __init__(self, options: RlhfOptions, stop: StopSignal) -> None:
        stamp = time.strftime("%H%M%S", time.gmtime())
        seen = RlhfObservation(f"demo-rlhf-seed{options.seed}-{stamp}")
        super().__init__(options, seen, RlhfDisplay(), (RESULTS, VERDICTS), stop)
        self._options = options
        self._plan = RlhfPlan(options.steps)

    def prepare(self, pipeline: Pipeline) -> None:
        """A stream's last window closes by silence: nobody should wait 15 s for it at the end."""
        pipeline.extra["collector"] = {"INFOPLANE_ASSEMBLE__EVENT_IDLE_S": _EVENT_IDLE_S}

    def start_job(self, pipeline: Pipeline, status: Path) -> Child:
        """Start the two training ranks."""
        # Not --run: torchrun takes that for the beginning of an option of its own.
        arguments = ["--name", self._seen.run, "--steps", str(self._options.steps)]
        arguments += ["--seed", str(self._options.seed), "--status", str(status)]
        return start_ranks(pipeline, "infoplane.cli.demo.rlhf.job", arguments, {})

    def settle(self, turn: Turn, directory: Path) -> None:
        """Wait for the results of every stream's last window."""
        if not self.turn_until(lambda: not self._missing(), _SETTLE_S, turn):
            raise IncompleteDemoError(
                f"no results of the last window of {', '.join(self._missing())} {_SETTLE_S:.0f} s after "
                f"the job; logs in {directory}"
            )

    def report(self, page: str) -> dict[str, Any]:
        """Return what is reported at the end."""
        return report_of(self._seen, self._plan.planted_step, page)

    def runs(self) -> Iterable[str]:
        """Return the run of the reward model and that of the policy."""
        return self._seen.runs

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
