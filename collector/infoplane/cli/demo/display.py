"""What the demo of a fault shows in a terminal."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from infoplane.cli.demo.live_lines import LiveLines
from infoplane.cli.demo.observation import Observation

_LOSS_AVERAGE = 0.9


class Display(LiveLines[Observation]):
    """Step, loss and entropies of one run."""

    def __init__(self) -> None:
        super().__init__()
        self._verdicts = 0
        self._told: set[tuple[str, str, int]] = set()
        self.step: int | None = None
        self.steps = 0
        self.loss: float | None = None
        self.is_faulty = False

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

    def announce(self, seen: Observation) -> None:
        """Say each new verdict and each new line of the audit trail."""
        for verdict in seen.verdicts[self._verdicts :]:
            self.say(f"step {verdict.detected_step}: {verdict.severity}: {verdict.sentence}")
        self._verdicts = len(seen.verdicts)
        for one in seen.interventions.values():
            for (stage, actor, rank), entry in one.entries.items():
                if (one.id, stage, rank) not in self._told:
                    self._told.add((one.id, stage, rank))
                    who = f"rank {rank}" if actor == "agent" else actor
                    self.say(f"step {entry.step}: {one.describe()} {stage} by {who}")

    def table(self, seen: Observation) -> Table:
        """Return where the run is."""
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
