"""Canonical variates of rows that the directions were not fitted on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from infoplane.estimators.mutual_information.canonical import CrossMoments, canonical_directions
from infoplane.estimators.mutual_information.ranks import normal_scores

THRESHOLD = 3.0
"""Standard deviations by which a held-out correlation must exceed zero to be kept."""


@dataclass(frozen=True, slots=True)
class HeldVariates:
    """Canonical variates of one fold's rows, centred.

    Attributes:
        rows: The fold, m consecutive rows.
        x: Shape ``(t, m, r)``.
        y: Shape ``(t, m, r)``.
        rank: Shape ``(t, r)``: 1, 2 ... in the order of the fit for directions whose
            correlation held up on these rows, 0 for the others.
    """

    rows: slice
    x: Tensor
    y: Tensor
    rank: Tensor

    def leading(self, items: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the ``count`` leading surviving variates of some items, others set to 0."""
        rank = self.rank[items]
        kept = ((rank > 0) & (rank <= count)).unsqueeze(1)
        return self.x[items] * kept, self.y[items] * kept


def held_variates(
    x: Tensor, y: Tensor, *, folds: int, r: int, ridge: float
) -> Iterator[HeldVariates]:
    """Yield every fold projected on directions fitted on the other folds.

    A direction that overfits shows no correlation on the held rows and is dropped, so
    independent data leave nothing, in any dimension.

    Args:
        x: Shape ``(t, n, dx)``, float64, rows in random order.
        y: Shape ``(t, n, dy)``, float64.
        folds: Number of folds of consecutive rows.
        r: Directions fitted.
        ridge: As in `canonical_directions`.
    """
    n = x.shape[-2]
    parts = [slice(n * i // folds, n * (i + 1) // folds) for i in range(folds)]
    moments = [CrossMoments.of_rows(x[:, rows], y[:, rows]) for rows in parts]
    for fold, rows in enumerate(parts):
        others = reduce(CrossMoments.__add__, moments[:fold] + moments[fold + 1 :])
        directions = canonical_directions(others, r=r, ridge=ridge)
        u, v = directions.project(x[:, rows], y[:, rows])
        u, v = u - u.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
        spread = (u.square().mean(1) * v.square().mean(1)).sqrt().clamp(min=1e-12)
        kept = (u * v).mean(1) / spread > THRESHOLD / math.sqrt(rows.stop - rows.start)
        yield HeldVariates(rows, u, v, kept * kept.cumsum(1))


def with_energy(scores: Tensor) -> Tensor:
    """Return normal scores with one more column: the normal score of each row's norm.

    Vectors may share nothing but their scale, as heavy-tailed ones do; no linear direction
    sees that. Shape ``(t, n, d)`` to ``(t, n, d + 1)``.
    """
    energy = normal_scores(scores.square().sum(-1, keepdim=True))
    return torch.cat([scores, energy], -1)
