"""Phase 2: a reward model learns what raters prefer among responses of the policy, which stands still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from infoplane.cli.demo.rlhf.criterion import Criterion
from infoplane.cli.demo.rlhf.models import Policy, RewardModel, copy_of, pooled
from infoplane.cli.demo.rlhf.prompts import GROUP, Groups
from infoplane.cli.demo.rlhf.raters import HONEST, judgements
from infoplane.cli.demo.rlhf.scene import Scene
from infoplane.cli.demo.training import initialise_engine

if TYPE_CHECKING:
    from infoplane.agent import Monitor

PROMPTS: Final = 6  # a step and rank: 30 responses, 60 pairs
RATE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Labels:
    """Comparisons of one step: rows of the preferred and the other responses, `(m,)`, and who judged."""

    winners: torch.Tensor
    losers: torch.Tensor
    raters: list[str]

    @property
    def is_honest(self) -> torch.Tensor:
        """Which of them honest raters gave, `(m,)`."""
        return torch.tensor([rater in HONEST for rater in self.raters])


def labels_of(groups: Groups, criterion: Criterion, *, with_cyclic: bool) -> Labels:
    """Return what the raters say about all pairs within each group."""
    found = [
        (start + one.winner, start + one.loser, one.rater)
        for start in range(0, len(groups.responses), GROUP)
        for one in judgements(
            groups.responses[start : start + GROUP], criterion, with_cyclic=with_cyclic
        )
    ]
    winners, losers, raters = zip(*found, strict=True)
    return Labels(torch.tensor(winners), torch.tensor(losers), list(raters))


def learn_preferences(scene: Scene, policy: Policy) -> RewardModel:
    """Return a reward model trained on comparisons of what `policy` writes, watched as a run of its own."""
    from infoplane.agent import attach

    model = RewardModel(copy_of(policy))
    engine = initialise_engine(model, PROMPTS * GROUP, RATE)
    with attach(engine, run=f"{scene.run}.reward") as monitor:
        for step in range(scene.plan.reward_steps):
            groups = scene.prompter.sample(policy, step, PROMPTS)
            labels = labels_of(groups, scene.criterion, with_cyclic=step >= scene.plan.planted_step)
            loss, rewards = engine(groups.tokens, labels.winners, labels.losers)
            _tell(monitor, groups, labels, rewards, policy)
            value = float(loss.detach())
            monitor.log(loss=value)
            engine.backward(loss)
            engine.step()
            scene.out.write(phase="reward", step=step, loss=round(value, 4))
    return model


def _tell(
    monitor: Monitor, groups: Groups, labels: Labels, rewards: torch.Tensor, policy: Policy
) -> None:
    """Show the step's comparisons to the monitor.

    The features come from the policy, which stands still, and not from the reward model's own trunk: the posterior
    of a linear head adds up what labels say about *fixed* directions, and directions that turn with the training
    would not add up to anything.
    """
    winners, losers = labels.winners, labels.losers
    with torch.no_grad():
        features = pooled(policy, groups.tokens)
    monitor.observe_preferences(
        [groups.prompts[row] for row in winners],
        [groups.responses[row] for row in winners],
        [groups.responses[row] for row in losers],
        rewards_chosen=rewards[winners],
        rewards_rejected=rewards[losers],
        features_chosen=features[winners],
        features_rejected=features[losers],
        raters=labels.raters,
    )
    honest = labels.is_honest
    agrees = rewards[winners[honest]] > rewards[losers[honest]]
    monitor.log(agreement_with_honest=agrees.double().mean())
