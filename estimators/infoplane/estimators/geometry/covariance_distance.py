"""Squared Fisher-Rao distance of sample covariances, and how much of it is chance.

The distance of two zero-mean Gaussians is sqrt(1/2 sum ln^2 l), l the eigenvalues of one
covariance relative to the other (Atkinson and Mitchell, "Rao's distance measure", 1981).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from infoplane.estimators.state.moments import Moments

SINGULAR = 1e-12
"""Least eigenvalue, relative to the largest, of a covariance that counts as regular."""
NEAR = 1e-5

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SquaredDistance:
    """Squared distance of one pair of covariances.

    Attributes:
        square: 1/2 sum ln^2 l; 0 without a value.
        chance: What sampling adds to it on average, to second order in 1/n and for rows that are
            independent and Gaussian.
        reason: Why there is no value: ``"d"`` for widths that differ, ``"nan"``, ``"n"`` when a side has at
            most d + 1 rows or no columns, ``"singular"``; or empty.
    """

    square: float
    chance: float
    reason: str


def squared_distances(
    now: Sequence[Moments], before: Sequence[Moments], *, device: str | torch.device = "cpu"
) -> list[SquaredDistance]:
    """Return the squared distance of every item's two covariances; means do not count.

    Args:
        now: One per item.
        before: As many.
        device: Where eigenvalues are computed, in float64.

    Returns:
        One per item. Cost O(d^3) each; equal widths are batched.

    Raises:
        ValueError: If the numbers of items differ.
    """
    if len(now) != len(before):
        raise ValueError(
            f"now, before: expected as many items each, got {len(now)} and {len(before)}"
        )
    found: dict[int, SquaredDistance] = {}
    groups: dict[int, list[int]] = {}
    for i, pair in enumerate(zip(now, before, strict=True)):
        reason = pair_reason(*pair)
        if reason:
            found[i] = SquaredDistance(0.0, 0.0, reason)
        else:
            groups.setdefault(pair[0].d, []).append(i)
    for members in groups.values():
        sides = [
            torch.from_numpy(np.stack([side[i].covariance() for i in members])).to(device)
            for side in (before, now)
        ]
        values, regular = relative_eigenvalues(*sides)
        for i, row, ok in zip(members, values.cpu().numpy(), regular.tolist(), strict=True):
            found[i] = (
                SquaredDistance(
                    0.5 * float(np.square(np.log(row)).sum()),
                    chance_square(row, before[i].n, now[i].n),
                    "",
                )
                if ok
                else SquaredDistance(0.0, 0.0, "singular")
            )
    return [found[i] for i in range(len(now))]


def pair_reason(first: Moments, second: Moments) -> str:
    """Return why two moments cannot be compared, or ``""``."""
    if first.d != second.d:
        return "d"
    for one in (first, second):
        finite = np.isfinite(one.outer).all() and np.isfinite(one.total).all()
        if not (math.isfinite(one.n) and finite):
            return "nan"
    if first.d == 0 or min(first.n, second.n) <= first.d + 1:
        return "n"
    if not all(np.isfinite(one.covariance()).all() for one in (first, second)):
        return "nan"
    return ""


def relative_eigenvalues(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues of ``second`` relative to ``first (t, d, d)``, and whether all is regular.

    Both are scaled by the first's standard deviations and then whitened by it, which leaves the
    eigenvalues as they are but for rounding. Shapes ``(t, d)`` and ``(t,)``; the values of an item
    that is not regular are 1.
    """
    scale = first.diagonal(dim1=-2, dim2=-1).clamp(min=0.0).sqrt()
    varies = (scale > 0).all(-1)
    eye = torch.eye(first.shape[-1], dtype=first.dtype, device=first.device)
    scale = torch.where(varies[:, None], scale, 1.0)
    outer = scale.unsqueeze(-1) * scale.unsqueeze(-2)
    first = torch.where(varies[:, None, None], first / outer, eye)
    eigenvalues, vectors = torch.linalg.eigh(first)
    regular = varies & (eigenvalues[:, 0] > SINGULAR * eigenvalues[:, -1])
    safe = torch.where(regular[:, None], eigenvalues, 1.0)
    root = vectors * safe.rsqrt().unsqueeze(-2)
    relative = root.mT @ (second / outer) @ root
    values = torch.linalg.eigvalsh((relative + relative.mT) / 2.0)
    regular &= values[:, 0] > SINGULAR * values[:, -1]
    return torch.where(regular[:, None], values, 1.0), regular


def still_square(d: int, first: float, second: float) -> float:
    """Return the mean squared distance of two samples of one Gaussian, of n and m rows.

    With x = d/n and y = d/m: (d+1)/2 [x + y + 5/6 (x^2 + y^2) - x y / 3 + (x + y)^2 / d]. The first
    order is exact; the square terms are those of the Marchenko-Pastur law, the others fitted to
    simulation.
    """
    x, y = d / first, d / second
    second_order = 5.0 / 6.0 * (x * x + y * y) - x * y / 3.0 + (x + y) ** 2 / d
    return 0.5 * (d + 1) * (x + y + second_order)


def chance_square(values: FloatArray, first: float, second: float) -> float:
    """Return what sampling adds to 1/2 sum ln^2 l on average.

    First order by perturbation: for a spectral function F of a Wishart covariance the bias of
    order 1/n is sum_i l_i^2 F_ii + sum_{i<j} l_i l_j (F_i - F_j) / (l_i - l_j). With g = ln l this
    gives 1 -+ g_i a direction and, a pair, (l_j g_i - l_i g_j) / (l_i - l_j) for the second sample
    and (l_i g_i - l_j g_j) / (l_i - l_j) for the first. Without change that is
    d (d+1)/2 (1/n + 1/m); a change makes it grow, as distances in a space of negative curvature do.

    Second order, as found by simulation without change (d = 1 .. 150): the same times
    (d/n + d/m)(1/6 + 1/d). With it, no more than 0.6 % is missing at n = m = 8d.

    Args:
        values: Relative eigenvalues of second to first, ``(d,)``, above 0.
        first: Rows of the first sample.
        second: Rows of the second.
    """
    log = np.log(values)
    i, j = np.triu_indices(values.size, 1)
    gap = log[i] - log[j]
    near = np.abs(gap) < NEAR
    # With r = l_j / l_i the quotients are free of overflow; for equal values they tend to 1 -+ g.
    ratio = np.exp(-gap)
    under = np.where(near, 1.0, -np.expm1(-gap))
    of_second = np.where(near, 1.0 - log[i], (ratio * log[i] - log[j]) / under)
    of_first = np.where(near, 1.0 + log[i], (log[i] - ratio * log[j]) / under)
    d = int(values.size)
    spread = d / first + d / second
    return float(
        ((1.0 + log).sum() + of_first.sum()) / first
        + ((1.0 - log).sum() + of_second.sum()) / second
        + 0.5 * (d + 1) * spread**2 * (1.0 / 6.0 + 1.0 / d)
    )
