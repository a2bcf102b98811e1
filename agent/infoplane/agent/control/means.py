"""What a run is able to do when it is commanded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

from torch.optim import Optimizer

from infoplane.agent.settings import Settings
from infoplane.wire.actions import ACTIONS, CHECKPOINT, LEARNING_RATE_FACTOR


@dataclass(frozen=True, slots=True)
class Means:
    """The means of one rank.

    Attributes:
        optimizers: the torch optimizers whose `step` trains the model.
        checkpoint: writes a checkpoint of so many finished steps, on all ranks; None: no way to.
    """

    optimizers: Sequence[Optimizer] = ()
    checkpoint: Callable[[int], None] | None = None

    @property
    def able(self) -> frozenset[str]:
        """Return the names of the actions that this rank can do."""
        missing = set()
        if not self.optimizers:
            missing.add(LEARNING_RATE_FACTOR.name)
        if self.checkpoint is None:
            missing.add(CHECKPOINT.name)
        return frozenset(ACTIONS) - missing


def allowed_actions(settings: Settings) -> frozenset[str]:
    """Return the names in control.actions."""
    return frozenset(filter(None, (one.strip() for one in settings.control.actions.split(","))))


def fingerprint(settings: Settings, means: Means) -> str:
    """Return 16 hex digits of everything that must be equal on all ranks."""
    parts = (astuple(settings.control), settings.sampling.base_level, sorted(means.able))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def run_bounds(settings: Settings) -> dict[str, tuple[float, float]]:
    """Return the run's own bounds of a value, by action."""
    control = settings.control
    return {
        "learning_rate_factor": (control.learning_rate_low, control.learning_rate_high),
        "sampling_level": (settings.sampling.base_level, control.sampling_level_high),
    }
