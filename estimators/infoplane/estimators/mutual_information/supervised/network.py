"""The network: three encoders of a window, and quantiles of its information."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from infoplane.estimators.mutual_information.supervised.features import Features

LEVELS = (0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975)
MEDIAN = LEVELS.index(0.5)
CLIP = 6.0
"""Statistics are cut at this many standard deviations of the training sets."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths of the network's layers.

    Attributes:
        statistics: Numbers per window.
        directions: Numbers per direction.
        rows: Numbers per row, those of x and then those of y.
        hidden: Width of the trunk.
        token: Width of the set encoders.
    """

    statistics: int
    directions: int = 4
    rows: int = 10
    hidden: int = 256
    token: int = 32


class SetToInformation(nn.Module):
    """Quantiles of the information of a window in nats, for every level of `LEVELS`.

    Directions and rows are sets: each token is encoded on its own, and the codes are pooled by
    a sum over directions and by mean and attention over rows. The two sides of a row go through
    one encoder and meet in products and in the absolute difference, so that x and y may be
    swapped and their widths may differ. Quantiles are the median and softplus steps away from
    it, so that they cannot cross.
    """

    def __init__(self, sizes: Sizes) -> None:
        """Build the layers for ``sizes``."""
        super().__init__()
        self.mean: Tensor
        self.spread: Tensor
        token, hidden = sizes.token, sizes.hidden
        self.register_buffer("mean", torch.zeros(sizes.statistics))
        self.register_buffer("spread", torch.ones(sizes.statistics))
        self.direction = nn.Sequential(
            nn.Linear(sizes.directions + sizes.statistics, 2 * token), nn.SiLU(),
            nn.Linear(2 * token, token),
        )  # fmt: skip
        self.side = nn.Sequential(
            nn.Linear(sizes.rows // 2, token), nn.SiLU(), nn.Linear(token, token // 2)
        )
        self.pair = nn.Sequential(nn.Linear(3 * token // 2, token), nn.SiLU())
        self.score = nn.Linear(token, 2)
        self.entry = nn.Linear(sizes.statistics + 4 * token, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU(),
                          nn.Linear(hidden, hidden)) for _ in range(2)
        )  # fmt: skip
        self.exit = nn.Linear(hidden, len(LEVELS))
        self.direct = nn.Linear(sizes.statistics, 1)

    def forward(self, seen: Features, present: Tensor) -> Tensor:
        """Return quantiles ``(t, len(LEVELS))``, increasing; may be negative.

        Args:
            seen: Of ``t`` windows.
            present: Which rows are there, ``(t, n)``, bool; others are padding.
        """
        z = ((seen.statistics - self.mean) / self.spread).clamp(-CLIP, CLIP)
        codes = [z, self._directions(seen.directions, z), self._rows(seen.rows, present)]
        hidden = self.entry(torch.cat(codes, -1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        out = self.exit(hidden)
        median = out[..., MEDIAN : MEDIAN + 1] + self.direct(z)
        steps = nn.functional.softplus(out - 2.0)
        below = steps[..., :MEDIAN].flip(-1).cumsum(-1).flip(-1)
        above = steps[..., MEDIAN + 1 :].cumsum(-1)
        return torch.cat([median - below, median, median + above], -1)

    def _directions(self, tokens: Tensor, statistics: Tensor) -> Tensor:
        shared = statistics.unsqueeze(1).expand(-1, tokens.shape[1], -1)
        codes = self.direction(torch.cat([tokens, shared], -1))
        pooled: Tensor = (codes * tokens[..., -1:]).sum(1) / 4.0
        return pooled

    def _rows(self, rows: Tensor, present: Tensor) -> Tensor:
        a, b = (self.side(half) for half in rows.chunk(2, -1))
        code = self.pair(torch.cat([a * b, a + b, (a - b).abs()], -1))
        code = code * present.unsqueeze(-1)
        mean = code.sum(1) / present.sum(1, keepdim=True)
        weight = self.score(code).masked_fill(~present.unsqueeze(-1), -torch.inf).softmax(1)
        attended = (weight.mT @ code).flatten(1)
        return torch.cat([mean, attended], -1)


def quantiles_at(quantiles: Tensor, level: float) -> Tensor:
    """Return the quantile at any level within `LEVELS`, between its neighbours: ``(t,)``."""
    grid = torch.tensor(LEVELS, dtype=quantiles.dtype)
    above = int(torch.searchsorted(grid, level).clamp(1, len(LEVELS) - 1))
    share = (level - LEVELS[above - 1]) / (LEVELS[above] - LEVELS[above - 1])
    return torch.lerp(quantiles[..., above - 1], quantiles[..., above], share)


def pinball(quantiles: Tensor, truth: Tensor) -> Tensor:
    """Return the mean pinball loss over `LEVELS`, a number.

    Args:
        quantiles: Shape ``(t, len(LEVELS))``.
        truth: Shape ``(t,)``.
    """
    level = torch.tensor(LEVELS, dtype=quantiles.dtype)
    error = truth.unsqueeze(-1) - quantiles
    return torch.maximum(level * error, (level - 1.0) * error).mean()
