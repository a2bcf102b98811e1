"""What the user asked the preference demo for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infoplane.cli.demo.options import DemoOptions
from infoplane.cli.demo.rlhf.plan import RlhfPlan
from infoplane.wire import ConfigurationError

DEFAULT_STEPS: Final = 512
# Options that choose what the other demo does to its one training run.
_NOT_HERE: Final = ("duration", "fault", "no_fault", "shuffle_labels", "act")


@dataclass(frozen=True, slots=True)
class RlhfOptions:
    """Checked options.

    Attributes:
        steps: optimizer steps of all phases together.
        seed: of weights, prompts and samples.
        bootstrap: a running broker; None starts the embedded one.
        keep_open: leave the page up afterwards.
        port: of the page; None prefers the usual one and falls back to any.
        record: folder for a log of all topics.
    """

    steps: int = DEFAULT_STEPS
    seed: int = 1
    bootstrap: str | None = None
    keep_open: bool = False
    port: int | None = None
    record: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is started."""
        RlhfPlan(self.steps)
        self._shared()

    def page_port(self) -> int:
        """Return the port to ask for."""
        return self._shared().page_port()

    def _shared(self) -> DemoOptions:
        """Return the options that both demos have, checked."""
        return DemoOptions(port=self.port, record=self.record)


def refuse_others(given: Iterable[str]) -> None:
    """Do nothing if none of the names of options in `given` belongs to the other demo.

    Raises:
        ConfigurationError: one does.
    """
    for name in _NOT_HERE:
        if name in given:
            raise ConfigurationError(f"--{name.replace('_', '-')}", "given", "no --rlhf beside it")
