"""The faults that the demo can inject: each changes the optimizer, the data or the weights, never a number.

lr         the optimizer's learning rate is 20 times the announced one for 16 steps
shard      the data shard of the last rank turns into random bytes
collapse   a wrong decay shrinks what is written to the residual stream, in all directions but one
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch

from infoplane.cli.demo.model import ByteTransformer
from infoplane.cli.demo.plan import Plan

LR_FACTOR: Final = 20.0
LR_STEPS: Final = 16
COLLAPSE_RATE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Fault:
    """The fault of a plan, as the training loop asks for it."""

    plan: Plan

    def is_active(self, step: int) -> bool:
        """Whether `step` runs under the fault, or after it began."""
        return self.plan.fault_step is not None and step >= self.plan.fault_step

    def learning_rate_factor(self, step: int) -> float:
        """Return what the optimizer's learning rate is multiplied by, behind the plan's back."""
        start = self.plan.fault_step
        if self.plan.fault != "lr" or start is None:
            return 1.0
        return LR_FACTOR if start <= step < start + LR_STEPS else 1.0

    def damages_data(self, step: int, rank: int, world: int) -> bool:
        """Whether this rank reads random bytes in `step`."""
        return self.plan.fault == "shard" and rank == world - 1 and self.is_active(step)

    def damage_weights(self, step: int, model: ByteTransformer) -> None:
        """Apply one step of the wrong decay; every rank must call it."""
        if self.plan.fault == "collapse" and self.is_active(step):
            decay_all_but_one_direction(model)


def decay_all_but_one_direction(model: ByteTransformer, rate: float = COLLAPSE_RATE) -> None:
    """Shrink what `model` writes to the residual stream by `rate`, except along the first axis.

    The optimizer's own fp32 weights are changed, because ZeRO overwrites the model's copy with them.
    """
    from deepspeed.utils import safe_get_full_fp32_param, safe_set_full_fp32_param

    for parameter, axis in model.residual_writers():
        weight: Any = safe_get_full_fp32_param(parameter)
        kept = weight.select(axis, 0).clone()
        shrunk = torch.mul(weight, 1.0 - rate)
        shrunk.select(axis, 0).copy_(kept)
        safe_set_full_fp32_param(parameter, shrunk)
