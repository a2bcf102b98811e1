"""Phase 3: the policy follows the reward model, held back by its distance from where it began."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from infoplane.cli.demo.rlhf.models import (
    PROMPT,
    Likelihood,
    Policy,
    RewardModel,
    copy_of,
    likelihood_of,
)
from infoplane.cli.demo.rlhf.prompts import GROUP, Groups
from infoplane.cli.demo.rlhf.scene import Scene

if TYPE_CHECKING:
    from infoplane.agent import Monitor

PROMPTS: Final = 12  # a step and rank: 60 rollouts
RATE: Final = 4e-4
KL_WEIGHT: Final = 0.1  # standard deviations of reward a nat: the policy is meant to move


@dataclass(frozen=True, slots=True)
class Rollouts:
    """What is known of the responses of one step; tensors `(n,)`."""

    groups: Groups
    rewards: torch.Tensor
    now: Likelihood
    before: Likelihood

    @property
    def advantages(self) -> torch.Tensor:
        """How far each lies above its group's mean, in standard deviations of the step, less the penalty."""
        distance = above_group(self.now.log_probs - self.before.log_probs)
        rewards = above_group(self.rewards)
        return rewards / (rewards.std() + 1e-6) - KL_WEIGHT * distance


def follow_reward(scene: Scene, engine: Any, policy: Policy, model: RewardModel) -> None:
    """Train `policy` in `engine` by group-relative REINFORCE on the scores of `model`, watched as a run of its own."""
    from infoplane.agent import attach

    reference = copy_of(policy).eval()
    model.eval()
    first = scene.plan.supervised_steps
    set_rate(engine, RATE)
    with attach(engine, run=f"{scene.run}.policy") as monitor:
        for step in range(first, first + scene.plan.policy_steps):
            groups = scene.prompter.sample(policy, step, PROMPTS)
            rollouts = score(groups, policy, reference, model)
            tokens = groups.tokens
            loss = engine(tokens[:, :-1], tokens[:, 1:], weights_of(rollouts))
            _tell(monitor, scene, rollouts)
            engine.backward(loss)
            engine.step()
            scene.out.write(phase="policy", step=step, loss=float(loss.detach()))


def score(groups: Groups, policy: Policy, reference: Policy, model: RewardModel) -> Rollouts:
    """Return the rollouts with their rewards and likelihoods."""
    policy.eval()
    now, before = likelihood_of(policy, groups.tokens), likelihood_of(reference, groups.tokens)
    policy.train()
    with torch.no_grad():
        rewards = model.rewards(groups.tokens)
    return Rollouts(groups, rewards, now, before)


def weights_of(rollouts: Rollouts) -> torch.Tensor:
    """Return the weights of the policy's loss: the advantage on every byte of the response, 0 on the prompt."""
    tokens = rollouts.groups.tokens
    weights = torch.zeros(tokens.shape[0], tokens.shape[1] - 1)
    weights[:, PROMPT - 1 :] = rollouts.advantages[:, None]
    return weights


def above_group(values: torch.Tensor) -> torch.Tensor:
    """Return `values` less the mean of their group, `(n,)`."""
    groups = values.view(-1, GROUP)
    return (groups - groups.mean(dim=1, keepdim=True)).flatten()


def set_rate(engine: Any, rate: float) -> None:
    """Set the learning rate from the next step on."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def _tell(monitor: Monitor, scene: Scene, rollouts: Rollouts) -> None:
    """Show the step's rollouts to the monitor, and beside them what nobody has in earnest: the true criterion."""
    groups = rollouts.groups
    monitor.observe_rollouts(
        groups.prompts,
        groups.responses,
        rewards=rollouts.rewards,
        entropies=rollouts.now.entropies,
        log_probs=rollouts.now.log_probs,
        reference_log_probs=rollouts.before.log_probs,
        tokens=[len(response) for response in groups.responses],
        advantages=rollouts.advantages,
    )
    scores = [scene.criterion.score(response) for response in groups.responses]
    monitor.log(true_criterion=sum(scores) / len(scores))
