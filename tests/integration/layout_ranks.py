"""Starts the ranks of one layout as processes, and reads what they wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from layout_reading import Sent
from rank_processes import run_ranks

FOLDER = Path(__file__).parent


class Cell:
    """What one layout's ranks wrote."""

    def __init__(
        self, name: str, folder: Path, flavours: list[str], results: str = "result-{rank}.json"
    ) -> None:
        self.layout, _, world = name.partition("-")
        self.world = int(world)
        self.folder = folder
        self.flavours = flavours
        self.results: list[dict[str, Any]] = [
            json.loads((folder / results.format(rank=rank)).read_text())
            for rank in range(self.world)
        ]

    @classmethod
    def unfinished(cls, name: str, folder: Path, flavours: list[str]) -> Cell | None:
        """Return the flavours that all ranks finished before one of them failed, None if there are none."""
        world = int(name.partition("-")[2])
        files = [folder / f"done-{rank}.json" for rank in range(world)]
        if not all(file.exists() for file in files):
            return None
        found = [set(json.loads(file.read_text())) for file in files]
        done = [flavour for flavour in flavours if all(flavour in one for one in found)]
        return cls(name, folder, done, "done-{rank}.json") if done else None

    def sent(self, flavour: str) -> Sent:
        """Return what the agents sent."""
        return Sent.read(self.folder, flavour, self.world)


def train(name: str, folder: Path, flavours: list[str], patience_s: float) -> Cell:
    """Train `LAYOUT-WORLD` in all flavours, each with the agent on and off; raises RanksError."""
    layout, _, world = name.partition("-")
    job = str(FOLDER / "layout_job.py")
    run_ranks(
        lambda rank: [job, layout, str(rank), world, str(folder), *flavours],
        int(world),
        folder,
        patience_s=patience_s,
    )
    return Cell(name, folder, flavours)
