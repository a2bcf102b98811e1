"""The preference demo's progress in a terminal; silent where stderr is none."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from infoplane.cli.demo.rlhf.observation import RlhfObservation

_PHASES: Final = {
    "supervised": "the policy learns to write",
    "reward": "the reward model learns what raters prefer",
    "policy": "the policy follows the reward model",
}


class RlhfDisplay:
    """A few lines that follow the runs, redrawn in place. Writes to stderr only."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._phase = ""
        self._step = 0
        self._planted_step = -1

    def __enter__(self) -> RlhfDisplay:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def say(self, message: str) -> None:
        """Write one line above the moving ones."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

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

    def update(self, seen: RlhfObservation) -> None:
        """Redraw."""
        if not self._console.is_terminal:
            return
        table = Table.grid(padding=(0, 2))
        table.add_row("phase", f"{_PHASES.get(self._phase, 'starting')}, step {self._step}")
        for metric, value in seen.newest():
            table.add_row(metric, f"{value:.4g}")
        self._live.update(table)
