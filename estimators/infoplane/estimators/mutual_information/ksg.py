"""Nearest-neighbour mutual information, batched over items.

Kraskov, Stoegbauer, Grassberger, "Estimating mutual information" (2004), algorithm 1, for
pairs of vectors; Ross, "Mutual information between discrete and continuous data sets"
(2014), for a vector and a label. Both in brute force, without trees: O(n^2 d) per item, in
blocks of bounded memory.

The norm inside x and inside y is Euclidean, which does not change under rotation and needs one
matrix product; the joint norm is the larger of the two.
"""

from __future__ import annotations

import torch
from torch import Tensor

from infoplane.estimators.mutual_information.blocks import Distances, blocks, count_below


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
    terms = torch.full((t, p, n), torch.nan, dtype=torch.float64, device=x.device)
    if n <= k:
        return terms
    x_distances, y_distances = Distances(x.unsqueeze(1)), Distances(y)
    constant = float(_digamma(torch.tensor([k, n])).sum())
    for items, rows in blocks(t, n, p + 1, x.device):
        dx = x_distances.block(items, rows)
        dy = y_distances.block(items, rows)
        joint = torch.maximum(dx, dy)
        radius = joint.topk(k, dim=-1, largest=False).values[..., -1]
        nx = count_below(dx, radius)
        ny = count_below(dy, radius)
        terms[items, :, rows] = constant - _digamma(nx + 1) - _digamma(ny + 1)
    return terms


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
    distances = Distances(x.unsqueeze(1))
    for items, rows in blocks(t, n, p + 1, x.device):
        dx = distances.block(items, rows)
        part = labels[items]
        same = part[..., rows].unsqueeze(-1) == part.unsqueeze(-2)
        others = same.sum(-1, dtype=torch.int32).to(torch.int64) - 1
        within = torch.where(same, dx, torch.inf)
        nearest = within.topk(k, dim=-1, largest=False).values
        used = others.clamp(1, k)
        radius = nearest.gather(-1, used.unsqueeze(-1) - 1).squeeze(-1)
        # The ball includes the neighbour on its edge; the row itself is infinitely far.
        inside = count_below(dx, radius, inclusive=True)
        term = _digamma(used) - _digamma(others + 1) - _digamma(inside)
        terms[items, :, rows] = torch.where(others > 0, term, torch.nan)
    # Rows that occur once are not part of the sample, so the sample's size shrinks by them.
    held = terms.isfinite().sum(-1, keepdim=True).clamp(min=1).to(torch.float64)
    return terms + torch.digamma(held)


def _digamma(count: Tensor) -> Tensor:
    return torch.digamma(count.to(torch.float64))
