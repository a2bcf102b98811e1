"""Rank to normal transform: every column becomes standard normal by its ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

JITTER = 1e-6
"""Standard deviation of the noise that separates equal rows, in units of a column's own."""


def normal_scores(x: Tensor, *, seeds: Sequence[int] | None = None) -> Tensor:
    """Return the normal scores of every column, Phi^-1((rank - 1/2) / n).

    Mutual information does not change under such one-to-one maps, while outliers and scales
    disappear. Equal values get their average rank, so a repeated row stays a repeated row. With
    ``seeds`` noise of `JITTER` is added, because nearest-neighbour counts need distinct rows.
    Constant columns become exactly 0.

    Args:
        x: Shape ``(t, n, d)``, finite.
        seeds: One per item, for the noise; none when absent.

    Returns:
        Shape ``(t, n, d)``, float64. Cost O(t d n log n).
    """
    n = x.shape[-2]
    value, order = torch.sort(x.mT.contiguous(), dim=-1, stable=True)
    rank = torch.arange(n, dtype=torch.float64, device=x.device).expand_as(value)
    repeated = value[..., 1:] == value[..., :-1]
    if bool(repeated.any()):
        rank = _average_ranks(repeated)
    score = torch.special.ndtri((rank + 0.5) / n)
    scores = torch.empty_like(score).scatter_(-1, order, score)
    constant = value[..., :1] == value[..., -1:]
    if seeds is not None:
        scores = scores + JITTER * _noise(scores, seeds)
    return torch.where(constant, 0.0, scores).mT.contiguous()


def _average_ranks(repeated: Tensor) -> Tensor:
    """Return 0-based ranks of sorted values, runs of equal ones sharing their mean.

    Args:
        repeated: Shape ``(..., n - 1)``, True where a value equals the one before it.
    """
    n = repeated.shape[-1] + 1
    position = torch.arange(n, device=repeated.device).expand(*repeated.shape[:-1], n)
    edge = torch.zeros_like(repeated[..., :1])
    starts = torch.where(torch.cat([edge, repeated], -1), 0, position).cummax(-1).values
    ends = torch.where(torch.cat([repeated, edge], -1), n, position)
    ends = ends.flip(-1).cummin(-1).values.flip(-1)
    return (starts + ends).to(torch.float64) / 2.0


def _noise(like: Tensor, seeds: Sequence[int]) -> Tensor:
    """Return standard normal noise, drawn on the CPU so that devices agree."""
    draws = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed % 2**63)
        draws.append(torch.randn(like.shape[1:], generator=generator, dtype=torch.float64))
    return torch.stack(draws).to(like.device)
