"""What the user asked the preference demo for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from infoplane.cli.demo.options import SharedOptions
from infoplane.cli.demo.rlhf.plan import RlhfPlan
from infoplane.wire import ConfigurationError

DEFAULT_STEPS: Final = 512
# Options that choose what the other demo does to its one training run.
_NOT_HERE: Final = ("duration", "fault", "no_fault", "shuffle_labels", "act")


@dataclass(frozen=True, slots=True, kw_only=True)
class RlhfOptions(SharedOptions):
    """Checked options of the preference demo.

    Attributes:
        steps: optimizer steps of all phases together.
    """

    steps: int = DEFAULT_STEPS

    def __post_init__(self) -> None:
        """Refuse what cannot work, before anything is started."""
        RlhfPlan(self.steps)
        # Not super(): dataclasses build a class with slots anew, and super() would look in the first one.
        SharedOptions.__post_init__(self)


def refuse_others(given: Iterable[str]) -> None:
    """Do nothing if none of the names of options in `given` belongs to the other demo.

    Raises:
        ConfigurationError: one does.
    """
    for name in _NOT_HERE:
        if name in given:
            raise ConfigurationError(f"--{name.replace('_', '-')}", "given", "no --rlhf beside it")
