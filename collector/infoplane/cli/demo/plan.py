"""The announced plan of the training job: length, learning rate, and when the fault comes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

from infoplane.wire import ConfigurationError

FaultName = Literal["lr", "shard", "collapse"]
FAULTS: Final[tuple[str, ...]] = get_args(FaultName)
WINDOW_STEPS: Final = 8  # span of a window: 8 sampled steps at level 0
MIN_STEPS: Final = 8 * WINDOW_STEPS
_FAULT_AT: Final = (
    0.6  # a detector needs quiet windows before it, and people want to see what follows
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the run announces before it starts.

    Attributes:
        steps: training steps.
        peak: learning rate after the warm-up.
        warmup: steps of linear warm-up.
        fault: name of the fault, None for a healthy run.
    """

    steps: int
    peak: float = 1e-3
    warmup: int = 40
    fault: FaultName | None = None

    def __post_init__(self) -> None:
        """Refuse a run without room for windows."""
        if self.steps < MIN_STEPS:
            raise ConfigurationError("steps", self.steps, f"at least {MIN_STEPS} training steps")

    def learning_rate(self, step: int) -> float:
        """Return the planned learning rate of `step`: warm-up, then a cosine down to a tenth."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.peak * (0.55 + 0.45 * math.cos(math.pi * progress))

    def announce(self, step: int) -> dict[str, float]:
        """Return what the run says in advance about `step`; a fault does not change it."""
        return {"learning_rate": self.learning_rate(step)}

    @property
    def fault_step(self) -> int | None:
        """First step of the fault, at a window boundary; None for a healthy run."""
        if self.fault is None:
            return None
        return round(self.steps * _FAULT_AT / WINDOW_STEPS) * WINDOW_STEPS
