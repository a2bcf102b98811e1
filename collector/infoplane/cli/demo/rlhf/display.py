"""What the preference demo shows in a terminal."""

from __future__ import annotations

from typing import Any, Final

from rich.table import Table

from infoplane.cli.demo.live_lines import LiveLines
from infoplane.cli.demo.rlhf.observation import RlhfObservation

_PHASES: Final = {
    "supervised": "the policy learns to write",
    "reward": "the reward model learns what raters prefer",
    "policy": "the policy follows the reward model",
}


class RlhfDisplay(LiveLines[RlhfObservation]):
    """Phase, step and the gauges of rewards."""

    def __init__(self) -> None:
        super().__init__()
        self._phase = ""
        self._step = 0
        self._planted_step = -1

    def take_status(self, line: dict[str, Any]) -> None:
        """Take in one status line of the job."""
        self._planted_step = line.get("planted_step", self._planted_step)
        if "phase" not in line:
            return
        self._step = line["step"]
        if line["phase"] != self._phase:
            self._phase = line["phase"]
            self.say(_PHASES[self._phase])
        if self._phase == "reward" and self._step == self._planted_step:
            self.say(f"step {self._step}: cyclic raters come in")

    def announce(self, seen: RlhfObservation) -> None:
        """Nothing: the job's status says what begins."""

    def table(self, seen: RlhfObservation) -> Table:
        """Return where the runs are."""
        table = Table.grid(padding=(0, 2))
        table.add_row("phase", f"{_PHASES.get(self._phase, 'starting')}, step {self._step}")
        for metric, value in seen.newest():
            table.add_row(metric, f"{value:.4g}")
        return table
