"""What the trained estimator sees of a window: statistics, directions and rows.

All of it is computed from ranks, so that increasing maps of a column change nothing, and is
symmetric in the columns of each side and in the two sides. Rows have to come in an order that
their content decides (`content_order`); then the order they were given in does not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from infoplane.estimators.mutual_information.canonical import CrossMoments, canonical_directions
from infoplane.estimators.mutual_information.held_variates import held_variates
from infoplane.estimators.mutual_information.ranks import normal_scores
from infoplane.estimators.mutual_information.supervised.neighbours import ksg_many
from infoplane.estimators.mutual_information.supervised.order import STEPS

MIN_ROWS = 64
MAX_ROWS = 512
MAX_WIDTH = 32
DIRECTIONS = 32
FOLDS = 3
SUBSPACES = (1, 2, 4)
KS = (2, 5, 12)
RIDGE = 1e-2
CURVED_RIDGE = 1e-1
"""Curved columns are four times as many as plain ones, so that they overfit sooner."""


@dataclass(frozen=True, slots=True)
class Features:
    """Input of the network for ``t`` windows of equal shape, float32.

    Attributes:
        statistics: Shape ``(t, s)``.
        directions: One token per canonical direction, ``(t, DIRECTIONS, 4)``: correlation on
            the rows it was fitted on, on others, the Gaussian information of the first, and 1;
            all 0 beyond min(dx, dy).
        rows: One token per row, ``(t, n, 10)``, first five numbers of x, then the same of y: two
            leading variates, the norm, sums over columns of two Hermite polynomials.
    """

    statistics: Tensor
    directions: Tensor
    rows: Tensor


@dataclass(frozen=True, slots=True)
class _Side:
    """Normal scores of one side ``(t, n, d)``, and the normal score of each row's norm."""

    scores: Tensor
    norm: Tensor

    @classmethod
    def of(cls, x: Tensor) -> _Side:
        scores = normal_scores(x)
        norm = scores.square().sum(-1, keepdim=True)
        # A score and its negative have one norm, whatever the last bit says.
        return cls(scores, normal_scores((norm * STEPS).round()))

    def plain(self) -> Tensor:
        return torch.cat([self.scores, self.norm], -1)

    def curved(self) -> Tensor:
        """Return columns in which maps that bend with the norm are nearly linear."""
        s, e = self.scores, self.norm
        bend = (e.square() - 1.0) / math.sqrt(2.0)
        square = (s.square() - 1.0) / math.sqrt(2.0)
        return torch.cat([s, s * e, s * bend, square, e], -1)


def features(x: Tensor, y: Tensor) -> Features:
    """Return the network's input for windows of equal shape.

    Args:
        x: Shape ``(t, n, dx)``, finite, ``MIN_ROWS <= n <= MAX_ROWS``, ``dx <= MAX_WIDTH``;
            rows in content order.
        y: Shape ``(t, n, dy)``.

    Returns:
        The features, on the device of x. Cost O(t (n^2 (dx + dy) + n d^2 + d^3)).
    """
    a, b = _Side.of(x), _Side.of(y)
    fitted = canonical_directions(CrossMoments.of_rows(a.scores, b.scores), r=DIRECTIONS)
    plain, held = _held(a.plain(), b.plain(), r=DIRECTIONS, ridge=RIDGE)
    curved, bent = _held(a.curved(), b.curved(), r=8, ridge=CURVED_RIDGE)
    inside = fitted.correlations
    statistics = torch.cat(
        [
            _sizes(x, y),
            _gaussian(inside, x, y),
            _padded(inside, 4),
            _padded(held, 4),
            _information(held).unsqueeze(-1),
            _padded(bent, 4),
            _information(bent).unsqueeze(-1),
            ksg_many([(a.scores, b.scores), (a.norm, b.norm)], ks=KS),
            plain,
            curved,
            _pairs(a.scores, b.scores),
            _norms(a, b),
        ],
        -1,
    )
    width = inside.shape[-1]
    tokens = [inside, _padded(held, width), -0.5 * torch.log1p(-inside.square().clamp(max=0.9999))]
    tokens.append(torch.ones_like(inside))
    directions = torch.stack([_padded(token, DIRECTIONS) for token in tokens], -1)
    u, v = _signed(*fitted.project(a.scores, b.scores))
    rows = torch.cat([u, a.norm, *_hermite(a.scores), v, b.norm, *_hermite(b.scores)], -1)
    return Features(statistics.float(), directions.float(), rows.float())


def _held(x: Tensor, y: Tensor, *, r: int, ridge: float) -> tuple[Tensor, Tensor]:
    """Return neighbour information and correlations on rows that the fit did not see.

    Returns:
        Means over the folds: ``(t, len(SUBSPACES) len(KS))``, and ``(t, r)``.
    """
    information, correlations = [], []
    for fold in held_variates(x, y, folds=FOLDS, r=r, ridge=ridge):
        spread = (fold.x.square().mean(1) * fold.y.square().mean(1)).sqrt().clamp(min=1e-12)
        correlations.append((fold.x * fold.y).mean(1) / spread)
        pairs = [(fold.x[..., :size], fold.y[..., :size]) for size in SUBSPACES]
        information.append(ksg_many(pairs, ks=KS))
    return torch.stack(information).mean(0), torch.stack(correlations).mean(0)


def _sizes(x: Tensor, y: Tensor) -> Tensor:
    t, n, dx = x.shape
    low, high = sorted((dx, y.shape[-1]))
    sizes = [math.log(n), math.log(low), math.log(high), low / n, high / n, low * high / n]
    return x.new_tensor(sizes, dtype=torch.float64).expand(t, -1)


def _gaussian(correlations: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return Gaussian information with and without the bias of so many rows, ``(t, 2)``."""
    n, dx, dy = x.shape[1], x.shape[-1], y.shape[-1]
    steps = torch.arange(1, dx + dy + 1, dtype=torch.float64, device=x.device)
    f = torch.digamma(((n - steps) / 2.0).clamp(min=0.5)).cumsum(0)
    bias = 0.5 * (f[dx - 1] + f[dy - 1] - f[dx + dy - 1])
    raw = _information(correlations)
    return torch.stack([raw, raw - bias], -1)


def _information(correlations: Tensor) -> Tensor:
    """Return -1/2 sum ln(1 - rho^2) of the positive correlations, ``(t,)``."""
    return -0.5 * torch.log1p(-correlations.clamp(0.0, 0.99999).square()).sum(-1)


def _pairs(x: Tensor, y: Tensor) -> Tensor:
    """Return how columns, and their squares, correlate across the sides, ``(t, 9)``."""
    n = x.shape[1]
    x2, y2 = x.square() - 1.0, y.square() - 1.0
    tables = [_correlations(x, y), _correlations(x2, y2)]
    mixed = [_correlations(x, y2), _correlations(x2, y)]
    mixed_means = [table.square().flatten(1).mean(-1) for table in mixed]
    excess = [table.square().flatten(1).mean(-1) - 1.0 / n for table in tables]
    excess.append(torch.stack(mixed_means).mean(0) - 1.0 / n)
    largest = [
        _padded(table.abs().flatten(1).sort(-1, descending=True).values, 3) for table in tables
    ]
    return torch.cat([torch.stack(excess, -1), *largest], -1)


def _correlations(x: Tensor, y: Tensor) -> Tensor:
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    x = x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)
    y = y / y.norm(dim=1, keepdim=True).clamp(min=1e-12)
    correlations: Tensor = x.mT @ y
    return correlations


def _norms(a: _Side, b: _Side) -> Tensor:
    """Return how norms correlate, how unequal they are, and how columns correlate, ``(t, 6)``."""
    shared = _correlations(a.norm, b.norm).flatten(1)
    both = torch.cat([a.scores, b.scores], -1)
    spread = [_norm_spread(z) for z in (a.scores, b.scores, both)]
    inner = [_correlations(z, z).square().flatten(1).mean(-1) for z in (a.scores, b.scores)]
    low_high = [torch.stack(pair, -1).sort(-1).values for pair in (spread[:2], inner)]
    return torch.cat([shared, spread[2].unsqueeze(-1), *low_high], -1)


def _norm_spread(scores: Tensor) -> Tensor:
    """Return ln of the variance of the squared norm over that of independent columns."""
    variance = scores.square().sum(-1).var(-1) / (2.0 * scores.shape[-1])
    return variance.clamp(min=1e-6).log()


def _hermite(scores: Tensor) -> list[Tensor]:
    root = math.sqrt(scores.shape[-1])
    square = (scores.square() - 1.0).sum(-1, keepdim=True) / (math.sqrt(2.0) * root)
    return [scores.sum(-1, keepdim=True) / root, square]


def _signed(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return two leading variates of each side; skewness decides the sign a fit leaves open."""
    sign = torch.where((u**3 + v**3).sum(1, keepdim=True) < 0, -1.0, 1.0)
    u, v = u * sign, v * sign
    return _padded(u[..., :2], 2), _padded(v[..., :2], 2)


def _padded(x: Tensor, width: int) -> Tensor:
    """Return the first ``width`` columns of ``x``, with zeros where there are fewer."""
    x = x[..., :width]
    return torch.nn.functional.pad(x, (0, width - x.shape[-1]))
