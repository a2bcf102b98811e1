"""The factor is in the step and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ChainedScheduler, CosineAnnealingLR, ExponentialLR, LinearLR

from infoplane.agent.control.rates import RateFactor

KINDS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.1),
    "tensor": lambda groups: torch.optim.AdamW(groups, lr=torch.tensor(0.1), foreach=False),
}
SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "exponential": lambda optimizer: ExponentialLR(optimizer, 0.9),
    "cosine": lambda optimizer: CosineAnnealingLR(optimizer, 20),
    "chained": lambda optimizer: ChainedScheduler(
        [LinearLR(optimizer, 0.5, total_iters=5), ExponentialLR(optimizer, 0.95)]
    ),
}


class Job:
    """Two groups with rates of their own; notes the rates inside every step."""

    def __init__(self, kind: str, schedule: str) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))
        groups = [{"params": self.model[0].parameters()}, {"params": self.model[1].parameters()}]
        self.optimizer = KINDS[kind](groups)
        if kind != "tensor":
            self.optimizer.param_groups[1]["lr"] = 0.03
        self.schedule = SCHEDULES[schedule](self.optimizer)
        self.inside: list[list[float]] = []
        # Registered before the factor's, so it runs before the rates are put back.
        self.optimizer.register_step_post_hook(lambda *_: self.inside.append(self.rates))
        self.between: list[list[float]] = []

    @property
    def rates(self) -> list[float]:
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.model(torch.ones(2, 4)).square().sum().backward()
        self.optimizer.step()
        self.schedule.step()
        self.between.append(self.rates)

    def parameters(self) -> list[torch.Tensor]:
        return [one.detach().clone() for one in self.model.parameters()]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_schedule_never_sees_the_factor(kind: str, schedule: str) -> None:
    plain, job = Job(kind, schedule), Job(kind, schedule)
    rates = RateFactor([job.optimizer, job.optimizer])
    for step in range(12):
        if step == 3:
            rates.set(0.25)
        if step == 9:
            rates.set(1.0)
        plain.step()
        job.step()
        seen = rates.settle()
        assert bool(seen) == (step in (3, 9))
        if seen:
            assert seen == list(zip(plain.inside[step], job.inside[step], strict=True))
    assert job.between == plain.between
    for step, (got, planned) in enumerate(zip(job.inside, plain.inside, strict=True)):
        factor = 0.25 if 3 <= step < 9 else 1.0
        assert got == pytest.approx([factor * rate for rate in planned], rel=1e-6)
    assert job.optimizer._optimizer_step_pre_hooks == {}, "no hook is left"


def test_without_a_command_there_is_no_hook_and_with_one_there_are_no_more_than_needed() -> None:
    job = Job("sgd", "exponential")
    rates = RateFactor([job.optimizer])
    job.step()
    assert not job.optimizer._optimizer_step_pre_hooks
    for factor in (0.5, 0.25, 2.0):
        rates.set(factor)
        job.step()
        rates.settle()
        assert len(job.optimizer._optimizer_step_pre_hooks) == 1


def test_back_at_one_parameters_are_those_of_a_run_that_never_had_a_factor() -> None:
    """A factor of 1 multiplies nothing, not even by 1."""
    plain, job = Job("adamw", "cosine"), Job("adamw", "cosine")
    rates = RateFactor([job.optimizer])
    for _ in range(5):
        rates.set(1.0)
        plain.step()
        job.step()
        rates.settle()
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), job.parameters(), strict=True))


def test_a_step_that_raises_leaves_no_factor_behind() -> None:
    job = Job("sgd", "exponential")
    rates = RateFactor([job.optimizer])
    rates.set(0.5)
    before = job.rates

    def fail() -> float:
        raise ValueError("closure")

    with pytest.raises(ValueError, match="closure"):
        job.optimizer.step(fail)
    assert job.rates != before
    job.step()
    assert job.inside[0] == [0.5 * rate for rate in before]
    rates.settle()
    with pytest.raises(ValueError, match="closure"):
        job.optimizer.step(fail)
    now = job.between[-1]
    rates.settle()
    assert job.rates == now


def test_a_rate_that_cannot_be_multiplied_is_reported_and_training_goes_on() -> None:
    job = Job("sgd", "exponential")
    rates = RateFactor([job.optimizer])
    rates.set(0.5)
    del job.optimizer.param_groups[1]["lr"]
    with pytest.raises(KeyError):
        job.optimizer.step()  # torch's own complaint, as without the hook
    with pytest.raises(RuntimeError, match="not changed"):
        rates.settle()
    assert job.optimizer.param_groups[0]["lr"] == 0.1
