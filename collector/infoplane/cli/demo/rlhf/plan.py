"""The three phases: how many steps each has, and when the cyclic raters come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from infoplane.cli.demo.plan import WINDOW_STEPS
from infoplane.wire import ConfigurationError

MIN_STEPS: Final = 16 * WINDOW_STEPS
_REWARD_SHARE: Final = 0.25
_POLICY_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True)
class RlhfPlan:
    """Steps of the phases, whole windows each.

    Attributes:
        steps: optimizer steps of all phases together.
    """

    steps: int

    def __post_init__(self) -> None:
        """Refuse a run without room for windows."""
        if self.steps < MIN_STEPS:
            raise ConfigurationError("--steps", self.steps, f"at least {MIN_STEPS} with --rlhf")

    @property
    def reward_steps(self) -> int:
        """Steps of the reward model, on comparisons."""
        return _windows(self.steps * _REWARD_SHARE) * WINDOW_STEPS

    @property
    def policy_steps(self) -> int:
        """Steps of the policy, on the reward model's scores."""
        return _windows(self.steps * _POLICY_SHARE) * WINDOW_STEPS

    @property
    def supervised_steps(self) -> int:
        """Steps of the policy, on text, before the others."""
        rest = self.steps - self.reward_steps - self.policy_steps
        return max(1, rest // WINDOW_STEPS) * WINDOW_STEPS

    @property
    def planted_step(self) -> int:
        """First step of the reward model with cyclic raters: the middle, at the beginning of a window."""
        return self.reward_steps // WINDOW_STEPS // 2 * WINDOW_STEPS

    @property
    def last_reward_step(self) -> int:
        """Last step of the reward model."""
        return self.reward_steps - 1

    @property
    def last_policy_step(self) -> int:
        """Last step of the policy; its steps on text count."""
        return self.supervised_steps + self.policy_steps - 1


def _windows(steps: float) -> int:
    return max(2, round(steps / WINDOW_STEPS))
