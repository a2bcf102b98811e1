"""What a controller may ask of a training run: the one table of actions and their bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Action:
    """One action.

    Attributes:
        name: as it stands in policies and commands.
        low: smallest value that any policy may ask for.
        high: largest.
        initial: value in force before any command; None where the action is an event and nothing stays in force.
        is_integer: the value is a whole number.
        meaning: of the value, for people.
    """

    name: str
    low: float
    high: float
    initial: float | None
    is_integer: bool
    meaning: str

    def allows(self, value: float) -> bool:
        """Whether `value` lies within the bounds (NaN does not)."""
        return self.low <= value <= self.high and (not self.is_integer or value == int(value))


LEARNING_RATE_FACTOR: Final = Action(
    "learning_rate_factor", 0.0, 10.0, 1.0, False, "factor on the learning rate of every group"
)
CHECKPOINT: Final = Action("checkpoint", 0.0, 0.0, None, False, "none: write a checkpoint now")
SAMPLING_LEVEL: Final = Action(
    "sampling_level", 0.0, 20.0, None, True, "every 2^level-th step is sampled"
)
STOP: Final = Action("stop", 0.0, 0.0, None, False, "none: end training after this step")

ACTIONS: Final = {one.name: one for one in (LEARNING_RATE_FACTOR, CHECKPOINT, SAMPLING_LEVEL, STOP)}
