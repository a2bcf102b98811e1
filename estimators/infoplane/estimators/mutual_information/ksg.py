"""Nearest-neighbour mutual information, batched over items.

Kraskov, Stoegbauer, Grassberger, "Estimating mutual information" (2004), algorithm 1, for
pairs of vectors; Ross, "Mutual information between discrete and continuous data sets"
(2014), for a vector and a label. Both in brute force, without trees: O(n^2 d) per item, in
blocks of bounded memory.

The norm inside x and inside y is Euclidean, which does not change under rotation and needs one
matrix product; the joint norm is the larger of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from infoplane.estimators.mutual_information.blocks import (
    Distances,
    Scratch,
    blocks,
    count_below,
    kth_smallest,
)
from infoplane.estimators.mutual_information.columns import column_terms
from infoplane.estimators.mutual_information.row_products import full_precision

Compare = Callable[..., Tensor]

SCREENED_WIDTH = 32
SCREENED_ROWS = 256
RECOUNTED_ROWS = 64
MOST_DOUBT = 0.3
"""Share of rows in doubt above which later blocks are counted in float64 at once."""


def ksg(x: Tensor, y: Tensor, *, k: int = 3) -> Tensor:
    """Return the KSG estimate of I(X;Y) in nats for every item.

    Good to about 3 dimensions a side; spread dependence in more dimensions is under-reported
    (docs/estimators.md has the table). Values may be negative. NaN when n <= k.

    Args:
        x: Shape ``(t, n, dx)``.
        y: Shape ``(t, n, dy)``.
        k: Neighbour that sets the ball's size.

    Returns:
        Shape ``(t,)``, float64. Cost O(t n^2 (dx + dy)).
    """
    return ksg_terms(x, y.unsqueeze(1), k=k).mean(-1).squeeze(1)


def ksg_labels(x: Tensor, labels: Tensor, *, k: int = 3) -> Tensor:
    """Return Ross's estimate of I(X;label) in nats for every item.

    Rows whose label occurs once carry no neighbour and are left out, as in Ross's paper; NaN
    when none is left.

    Args:
        x: Shape ``(t, n, d)``.
        labels: Shape ``(t, n)``, integers.
        k: Neighbour within the class; smaller classes use their size - 1.

    Returns:
        Shape ``(t,)``, float64. Cost O(t n^2 d).
    """
    terms = ksg_labels_terms(x, labels.unsqueeze(1), k=k)
    return terms.nanmean(-1).squeeze(1)


def ksg_terms(x: Tensor, y: Tensor, *, k: int) -> Tensor:
    """Return every row's term of the KSG mean, several ``y`` for one ``x``.

    Args:
        x: Shape ``(t, n, dx)``.
        y: Shape ``(t, p, n, dy)``: p partners of each x, e.g. permuted ones.
        k: Neighbour that sets the ball's size.

    Returns:
        Shape ``(t, p, n)``, float64, NaN when n <= k.
    """
    t, p, n, _ = y.shape
    if n <= k:
        return torch.full((t, p, n), torch.nan, dtype=torch.float64, device=x.device)
    if x.shape[-1] == 1 == y.shape[-1]:
        return column_terms(x[..., 0].unsqueeze(1).expand(t, p, n), y[..., 0], k=k)
    balls = _Balls(Distances(x.unsqueeze(1)), Distances(y), k)
    nx = torch.empty((t, p, n), dtype=torch.int64, device=x.device)
    ny = torch.empty_like(nx)
    doubt = torch.zeros((t, p, n), dtype=torch.bool, device=x.device)
    screened = _worth_screening(x, y)
    for items, rows in blocks(t, n, (1 if screened else 2) * (p + 1), x.device):
        found = balls.screened(items, rows) if screened else balls.exact(items, rows)
        nx[items, :, rows], ny[items, :, rows] = found.nx, found.ny
        if found.doubt is not None:
            doubt[items, :, rows] = found.doubt
            # Where ties are the rule, counting twice is the slower way.
            screened = float(found.doubt.mean(dtype=torch.float32)) < MOST_DOUBT
    balls.recount(doubt, nx, ny)
    # Counts are whole numbers up to n - 1, so that a table serves all of them.
    table = torch.digamma(torch.arange(1, n + 1, dtype=torch.float64, device=x.device))
    return table[k - 1] + table[n - 1] - table[nx] - table[ny]


@dataclass(frozen=True, slots=True)
class _Counts:
    """Neighbours inside the balls ``(i, p, b)``, and where float32 left them in doubt."""

    nx: Tensor
    ny: Tensor
    doubt: Tensor | None = None


class _Balls:
    """Counts neighbours inside the ball that reaches to the k-th joint neighbour."""

    def __init__(self, x: Distances, y: Distances, k: int) -> None:
        self._exact = x, y
        self._single = x.single(), y.single()
        self._scratch = Scratch()
        self._k = k

    def exact(self, items: slice, rows: slice) -> _Counts:
        """Count from float64 distances."""
        scratch = self._scratch
        dx = self._exact[0].block(items, rows, scratch=scratch, name="x")
        dy = self._exact[1].block(items, rows, scratch=scratch, name="y")
        radius = self._radius(dx, dy)
        nx = count_below(dx, radius, scratch=scratch)
        return _Counts(nx, count_below(dy, radius, scratch=scratch))

    def screened(self, items: slice, rows: slice) -> _Counts:
        """Count from float32 distances, and tell which rows that does not settle.

        The neighbour on the ball's edge is in reach of rounding in the space that it comes
        from. If nothing else is, all others are surely inside or outside.
        """
        x, y = self._single
        scratch = self._scratch
        dx = x.block(items, rows, scratch=scratch, name="x")
        dy = y.block(items, rows, scratch=scratch, name="y")
        radius = self._radius(dx, dy)
        # For the errors of the radius and of the distance, which are seldom both at their bound.
        slack = torch.maximum(x.error(items, rows, radius), y.error(items, rows, radius)).mul_(1.5)
        surely = self._below(dx, dy, radius - slack, torch.lt)
        near = self._below(dx, dy, radius.add_(slack), torch.le)
        nx, ny = surely.unbind()
        return _Counts(nx, ny, near.sum(0) - nx - ny != 1)

    def _below(self, dx: Tensor, dy: Tensor, radius: Tensor, compare: Compare) -> Tensor:
        """Return counts in x and in y, ``(2, i, p, b)``; floats, exact up to 2^24 rows."""
        limit = radius.unsqueeze(-1)
        inside = self._scratch.take("inside", (2, *dy.shape), dy)
        compare(dx, limit, out=inside[0])
        compare(dy, limit, out=inside[1])
        return inside.sum(-1)

    def recount(self, doubt: Tensor, nx: Tensor, ny: Tensor) -> None:
        """Count the rows in ``doubt (t, p, n)`` again in float64, into ``nx`` and ``ny``."""
        for item, partner in doubt.any(-1).nonzero().tolist():
            every = doubt[item, partner].nonzero().squeeze(-1)
            for start in range(0, every.numel(), RECOUNTED_ROWS):
                index = every[start : start + RECOUNTED_ROWS]
                dx = self._exact[0].of_rows((item, 0), index)
                dy = self._exact[1].of_rows((item, partner), index)
                radius = self._radius(dx, dy)
                nx[item, partner, index] = count_below(dx, radius, scratch=self._scratch)
                ny[item, partner, index] = count_below(dy, radius, scratch=self._scratch)

    def _radius(self, dx: Tensor, dy: Tensor) -> Tensor:
        joint = self._scratch.take("joint", dy.shape, dy)
        torch.maximum(dx, dy, out=joint)
        return kth_smallest(joint, self._k)


def _worth_screening(x: Tensor, y: Tensor) -> bool:
    """Return whether float32 distances, counted again where in doubt, are the faster way."""
    return (
        x.device.type == "cpu"
        and x.shape[-1] + y.shape[-1] >= SCREENED_WIDTH
        and x.shape[1] >= SCREENED_ROWS
        # Anything less is not the float32 that the error bound is about.
        and full_precision()
    )


def ksg_labels_terms(x: Tensor, labels: Tensor, *, k: int) -> Tensor:
    """Return every row's term of Ross's mean, several labellings for one ``x``.

    Args:
        x: Shape ``(t, n, d)``.
        labels: Shape ``(t, p, n)``, integers.
        k: Neighbour within the class.

    Returns:
        Shape ``(t, p, n)``, float64; NaN for rows whose label occurs once.
    """
    t, p, n = labels.shape
    terms = torch.full((t, p, n), torch.nan, dtype=torch.float64, device=x.device)
    if n <= k:
        return terms
    distances, scratch = Distances(x.unsqueeze(1)), Scratch()
    for items, rows in blocks(t, n, 2 * (p + 1), x.device):
        dx = distances.block(items, rows, scratch=scratch, name="x")
        part = labels[items]
        same = part[..., rows].unsqueeze(-1) == part.unsqueeze(-2)
        others = same.sum(-1, dtype=torch.int32).to(torch.int64) - 1
        within = torch.where(same, dx, torch.inf)
        nearest = within.topk(k, dim=-1, largest=False).values
        used = others.clamp(1, k)
        radius = nearest.gather(-1, used.unsqueeze(-1) - 1).squeeze(-1)
        # The ball includes the neighbour on its edge; the row itself is infinitely far.
        inside = count_below(dx, radius, inclusive=True, scratch=scratch)
        term = _digamma(used) - _digamma(others + 1) - _digamma(inside)
        terms[items, :, rows] = torch.where(others > 0, term, torch.nan)
    # Rows that occur once are not part of the sample, so the sample's size shrinks by them.
    held = terms.isfinite().sum(-1, keepdim=True).clamp(min=1).to(torch.float64)
    return terms + torch.digamma(held)


def _digamma(count: Tensor) -> Tensor:
    return torch.digamma(count.to(torch.float64))
