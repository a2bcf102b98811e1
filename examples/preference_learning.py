"""Preference learning, watched: where observe_preferences and observe_rollouts go in your own loops.

torchrun --standalone --nproc_per_node 2 examples/preference_learning.py

`infoplane demo --rlhf` runs the same longer, teaches the policy to write first, and plants contradicting raters.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import deepspeed
import deepspeed.ops
import torch
import torch.distributed as dist

from infoplane.agent import attach
from infoplane.cli.demo.rlhf.criterion import Criterion
from infoplane.cli.demo.rlhf.following import score, weights_of
from infoplane.cli.demo.rlhf.models import Policy, RewardModel, copy_of, new_policy, pooled
from infoplane.cli.demo.rlhf.preferring import labels_of
from infoplane.cli.demo.rlhf.prompts import Prompter
from infoplane.cli.demo.text import standard_library_text

STEPS = 32  # of each model: at level 0, four windows
CONFIG = {
    "train_micro_batch_size_per_gpu": 20,
    "zero_optimization": {"stage": 1},
    "zero_allow_untested_optimizer": True,
    # Every step is sampled, whatever that costs beside so small a model.
    "infoplane": {"sampling": {"base_level": 0}, "governor": {"enabled": False}},
}


def engine_of(model: torch.nn.Module) -> Any:
    """Return a DeepSpeed engine around `model`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=CONFIG)
    return engine


def train_reward_model(policy: Policy, prompter: Prompter, criterion: Criterion) -> RewardModel:
    """Fit a reward model to comparisons of responses, and show every comparison to the monitor."""
    model = RewardModel(copy_of(policy))
    engine = engine_of(model)
    with attach(engine, run="preferences-example.reward") as monitor:
        for step in range(STEPS):
            groups = prompter.sample(policy, step, prompts=4)
            labels = labels_of(groups, criterion, with_cyclic=False)
            good, bad = labels.winners, labels.losers
            loss, rewards = engine(groups.tokens, good, bad)
            with (
                torch.no_grad()
            ):  # features that stand still, here of the policy: docs/demo-rlhf.md
                features = pooled(policy, groups.tokens)
            monitor.observe_preferences(
                [groups.prompts[row] for row in good],
                [groups.responses[row] for row in good],
                [groups.responses[row] for row in bad],
                rewards_chosen=rewards[good],
                rewards_rejected=rewards[bad],
                features_chosen=features[good],
                features_rejected=features[bad],
                raters=labels.raters,
            )
            engine.backward(loss)
            engine.step()
    return model


def train_policy(policy: Policy, model: RewardModel, prompter: Prompter) -> None:
    """Follow the reward model by group-relative REINFORCE, and show every rollout to the monitor."""
    engine, reference = engine_of(policy), copy_of(policy)
    with attach(engine, run="preferences-example.policy") as monitor:
        for step in range(STEPS):
            groups = prompter.sample(policy, step, prompts=8)
            rollouts = score(groups, policy, reference, model)
            loss = engine(groups.tokens[:, :-1], groups.tokens[:, 1:], weights_of(rollouts))
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
            engine.backward(loss)
            engine.step()


def main() -> None:
    """Train a reward model, then a policy on it."""
    # DeepSpeed would compile this op on a CPU, for inference alone.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo")
    text = standard_library_text(1 << 20)
    prompter = Prompter(text, rank=dist.get_rank(), seed=0)
    policy = new_policy(seed=0)
    model = train_reward_model(policy, prompter, Criterion.of_text(text.tobytes()))
    train_policy(policy, model, prompter)
    dist.barrier()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may abort a process that is shutting down


if __name__ == "__main__":
    main()
