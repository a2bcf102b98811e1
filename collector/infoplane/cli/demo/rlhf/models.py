"""The two models: a policy that writes bytes, and a reward model on the same trunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import nn
from torch.nn import functional

from infoplane.cli.demo.model import ByteTransformer

WIDTH: Final = 64
BLOCKS: Final = 3
HEADS: Final = 4
PROMPT: Final = 24  # bytes
RESPONSE: Final = 24
LENGTH: Final = 64  # of the supervised phase; the longest sequence


class Policy(ByteTransformer):
    """A language model whose loss may weigh every byte: with advantages as weights that is REINFORCE."""

    def forward(
        self, tokens: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the mean of `weights` (1 when None) times the cross entropy, nats; all `(batch, length)`."""
        if weights is None:
            return super().forward(tokens, targets)
        return (weights * -self.log_probs(tokens, targets)).mean()

    def log_probs(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the log-probability of every target, nats, `(batch, length)`."""
        logits = self.lm_head(self.hidden(tokens))
        return -functional.cross_entropy(logits.transpose(1, 2), targets, reduction="none")


class RewardModel(nn.Module):
    """A score of a prompt with its response: linear in the trunk's mean over the response.

    Args:
        trunk: taken over; its head is dropped.
    """

    def __init__(self, trunk: ByteTransformer) -> None:
        super().__init__()
        self.trunk = trunk
        del trunk.lm_head
        self.score = nn.Linear(WIDTH, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(
        self, tokens: torch.Tensor, winners: torch.Tensor, losers: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the Bradley-Terry loss, nats a comparison, and the rewards `(n,)`.

        Args:
            tokens: prompts with responses, `(n, PROMPT + RESPONSE)`.
            winners: places in `tokens` of the preferred responses, `(m,)`.
            losers: places of the others, `(m,)`.
        """
        rewards = self.rewards(tokens)
        loss = -functional.logsigmoid(rewards[winners] - rewards[losers]).mean()
        return loss, rewards.detach()

    def rewards(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the reward of each row of `tokens`, `(n,)`."""
        scores: torch.Tensor = self.score(pooled(self.trunk, tokens))
        return scores.squeeze(1)


def new_policy(seed: int) -> Policy:
    """Return the policy as every rank starts it."""
    torch.manual_seed(seed)
    return Policy(WIDTH, BLOCKS, HEADS, LENGTH)


def copy_of(policy: Policy) -> Policy:
    """Return a policy of its own with the same weights."""
    copy = Policy(WIDTH, BLOCKS, HEADS, LENGTH)
    copy.load_state_dict(policy.state_dict())
    return copy


def pooled(trunk: ByteTransformer, tokens: torch.Tensor) -> torch.Tensor:
    """Return the mean over the response of what the head reads, `(n, WIDTH)`."""
    return trunk.hidden(tokens)[:, PROMPT:].mean(dim=1)


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What a policy thinks of responses: sums and means over their bytes, `(n,)`, nats."""

    log_probs: torch.Tensor
    entropies: torch.Tensor


@torch.no_grad()
def likelihood_of(policy: Policy, tokens: torch.Tensor) -> Likelihood:
    """Return the likelihood of the responses in `tokens`, `(n, PROMPT + RESPONSE)`."""
    logits = policy.lm_head(policy.hidden(tokens[:, :-1])[:, PROMPT - 1 :])
    log_p = torch.log_softmax(logits, dim=-1)
    chosen = log_p.gather(2, tokens[:, PROMPT:, None]).squeeze(2)
    entropy = torch.special.entr(log_p.exp()).sum(dim=2)
    return Likelihood(chosen.sum(dim=1), entropy.mean(dim=1))
