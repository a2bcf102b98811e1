"""Starts the ranks of one layout as processes, and reads what they wrote."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from layout_reading import Sent
from rank_processes import rank_environment

FOLDER = Path(__file__).parent


class LayoutError(Exception):
    """The ranks did not finish; the message is the end of their logs."""


class Cell:
    """What one layout's ranks wrote."""

    def __init__(self, name: str, folder: Path, flavours: list[str]) -> None:
        self.layout, _, world = name.partition("-")
        self.world = int(world)
        self.folder = folder
        self.flavours = flavours
        self.results: list[dict[str, Any]] = [
            json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(self.world)
        ]

    def sent(self, flavour: str) -> Sent:
        """Return what the agents sent."""
        return Sent.read(self.folder, flavour, self.world)


def train(name: str, folder: Path, flavours: list[str], patience_s: float) -> Cell:
    """Train `LAYOUT-WORLD` in all flavours, each with the agent on and off; raises LayoutError."""
    layout, _, world = name.partition("-")
    command = [sys.executable, str(FOLDER / "layout_job.py"), layout]
    workers = []
    for rank in range(int(world)):
        own = rank_environment(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=world)
        with (folder / f"log-{rank}").open("wb") as log:
            arguments = [*command, str(rank), world, str(folder), *flavours]
            workers.append(subprocess.Popen(arguments, env=own, stdout=log, stderr=log))
    deadline = time.monotonic() + patience_s
    try:
        while any(worker.poll() is None for worker in workers) and time.monotonic() < deadline:
            if any(worker.poll() for worker in workers):
                break  # one failed, and the others wait for it
            time.sleep(0.1)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    # Native threads may abort the interpreter's exit after a good run, so the files are the judge.
    if not all((folder / f"result-{rank}.json").exists() for rank in range(int(world))):
        logs = [(folder / f"log-{rank}").read_text()[-3000:] for rank in range(int(world))]
        raise LayoutError("\n".join(logs))
    return Cell(name, folder, flavours)
