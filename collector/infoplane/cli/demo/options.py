"""What the user asked the demo for."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infoplane.cli.demo.plan import FAULTS, MIN_STEPS
from infoplane.wire import ConfigurationError

DEFAULT_STEPS: Final = 400
RANKS: Final = 2
_USUAL_PAGE_PORT: Final = 9464


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """Checked options.

    Attributes:
        bootstrap: a running broker; None starts the embedded one.
        steps: training steps.
        duration_s: seconds of training instead of a number of steps.
        seed: of weights and data.
        fault: name of the fault, None for a healthy run.
        shuffle_labels: train on permuted targets.
        act: let the controller cut the learning rate on the first change verdict.
        keep_open: leave the page up afterwards.
        port: of the page; None prefers the usual one and falls back to any.
        record: folder for a log of all topics.
        as_json: print one JSON object.
    """

    bootstrap: str | None = None
    steps: int = DEFAULT_STEPS
    duration_s: float | None = None
    seed: int = 1
    fault: str | None = "lr"
    shuffle_labels: bool = False
    act: bool = False
    keep_open: bool = False
    port: int | None = None
    record: Path | None = None
    as_json: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is started."""
        if self.fault is not None and self.fault not in FAULTS:
            raise ConfigurationError("--fault", self.fault, f"one of {', '.join(FAULTS)}")
        if self.steps < MIN_STEPS:
            raise ConfigurationError("--steps", self.steps, f"at least {MIN_STEPS}")
        if self.duration_s is not None and self.duration_s <= 0:
            raise ConfigurationError("--duration", self.duration_s, "a positive number of seconds")
        if self.record is not None and self.record.exists() and any(self.record.iterdir()):
            raise ConfigurationError("--record", str(self.record), "an empty or new folder")

    def job_arguments(self, status: Path) -> list[str]:
        """Return the arguments of infoplane.cli.demo.job."""
        arguments = ["--steps", str(self.steps), "--seed", str(self.seed), "--status", str(status)]
        if self.duration_s is not None:
            arguments += ["--duration", str(self.duration_s)]
        if self.fault is not None:
            arguments += ["--fault", self.fault]
        if self.shuffle_labels:
            arguments.append("--shuffle-labels")
        return arguments

    def page_port(self) -> int:
        """Return the port to ask for: the user's, else the usual one if it is free, else any."""
        if self.port is not None:
            return self.port
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", _USUAL_PAGE_PORT))
            except OSError:
                return 0
        return _USUAL_PAGE_PORT
