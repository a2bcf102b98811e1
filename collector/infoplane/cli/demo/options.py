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


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedOptions:
    """Checked options that every demo has.

    Attributes:
        bootstrap: a running broker; None starts the embedded one.
        seed: of weights and data.
        keep_open: leave the page up afterwards.
        port: of the page; None prefers the usual one and falls back to any.
        record: folder for a log of all topics.
    """

    bootstrap: str | None = None
    seed: int = 1
    keep_open: bool = False
    port: int | None = None
    record: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is started."""
        if self.record is not None and self.record.exists() and any(self.record.iterdir()):
            raise ConfigurationError("--record", str(self.record), "an empty or new folder")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions(SharedOptions):
    """Checked options of the demo of a fault.

    Attributes:
        steps: training steps.
        duration_s: seconds of training instead of a number of steps.
        fault: name of the fault, None for a healthy run.
        shuffle_labels: train on permuted targets.
        act: let the controller cut the learning rate on the first change verdict.
        as_json: print one JSON object.
    """

    steps: int = DEFAULT_STEPS
    duration_s: float | None = None
    fault: str | None = "lr"
    shuffle_labels: bool = False
    act: bool = False
    as_json: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is started."""
        if self.fault is not None and self.fault not in FAULTS:
            raise ConfigurationError("--fault", self.fault, f"one of {', '.join(FAULTS)}")
        if self.steps < MIN_STEPS:
            raise ConfigurationError("--steps", self.steps, f"at least {MIN_STEPS}")
        if self.duration_s is not None and self.duration_s <= 0:
            raise ConfigurationError("--duration", self.duration_s, "a positive number of seconds")
        # Not super(): dataclasses build a class with slots anew, and super() would look in the first one.
        SharedOptions.__post_init__(self)

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
