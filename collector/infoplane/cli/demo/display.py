"""The demo's progress in a terminal; silent where stderr is none."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from infoplane.cli.demo.observation import Observation

_LOSS_AVERAGE = 0.9


class Display:
    """A few lines that follow the run, redrawn in place. Writes to stderr only, and only if that is a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._enabled = self._console.is_terminal
        self._verdicts = 0
        self._told: set[tuple[str, str, int]] = set()
        self.step: int | None = None
        self.steps = 0
        self.loss: float | None = None
        self.is_faulty = False
        self.page = ""

    def __enter__(self) -> Display:
        if self._enabled:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._enabled:
            self._live.stop()

    def say(self, message: str) -> None:
        """Write one line above the moving ones."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def take_status(self, line: dict[str, Any]) -> None:
        """Take in one status line of the job."""
        self.steps = line.get("steps", self.steps)
        if "step" not in line:
            return
        self.step, loss = line["step"], line["loss"]
        self.loss = loss if self.loss is None else _LOSS_AVERAGE * self.loss + 0.1 * loss
        if line["fault_injected"] and not self.is_faulty:
            self.is_faulty = True
            self.say(f"step {self.step}: the fault begins")

    def update(self, seen: Observation) -> None:
        """Redraw, and say each new verdict and each new line of the audit trail."""
        for verdict in seen.verdicts[self._verdicts :]:
            self.say(f"step {verdict.detected_step}: {verdict.severity}: {verdict.sentence}")
        self._verdicts = len(seen.verdicts)
        for one in seen.interventions.values():
            for (stage, actor, rank), entry in one.entries.items():
                if (one.id, stage, rank) not in self._told:
                    self._told.add((one.id, stage, rank))
                    who = f"rank {rank}" if actor == "agent" else actor
                    self.say(f"step {entry.step}: {one.describe()} {stage} by {who}")
        if self._enabled:
            self._live.update(self._table(seen))

    def _table(self, seen: Observation) -> Table:
        table = Table.grid(padding=(0, 2))
        step = "starting" if self.step is None else f"{self.step + 1} of {self.steps}"
        table.add_row("step", step)
        table.add_row("loss", "-" if self.loss is None else f"{self.loss:.3f} nats")
        table.add_row("windows", f"{len(seen.closed)} closed, {len(seen.complete)} complete")
        entropies = "  ".join(f"{tap} {value:.2f}" for tap, value in seen.entropies())
        table.add_row("entropy", f"{entropies} nats" if entropies else "-")
        table.add_row("verdicts", str(len(seen.verdicts)))
        table.add_row("page", self.page)
        return table
