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
from scipy.linalg.lapack import dpotrf, dtrtri
from torch import Tensor

from infoplane.estimators.geometry.spectrum import (
    FloatArray,
    covariances,
    runs_alone,
    symmetric_eigenvalues,
)
from infoplane.estimators.state.moments import Moments

BoolArray = npt.NDArray[np.bool_]
SINGULAR = 1e-12
"""Least eigenvalue, relative to the largest, of a covariance that counts as regular."""
NEAR = 1e-5
WELL = 1e6
"""Condition of a correlation matrix up to which its triangular root will do to whiten by."""


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
        reason = _plain_reason(*pair)
        if reason:
            found[i] = SquaredDistance(0.0, 0.0, reason)
        else:
            groups.setdefault(pair[0].d, []).append(i)
    for members in groups.values():
        first, second = [before[i] for i in members], [now[i] for i in members]
        found.update(zip(members, _of_one_width(first, second, device), strict=True))
    return [found[i] for i in range(len(now))]


def _of_one_width(
    before: Sequence[Moments], now: Sequence[Moments], device: str | torch.device
) -> list[SquaredDistance]:
    first, second = covariances(before), covariances(now)
    finite = np.asarray(np.isfinite(first).all((-2, -1)) & np.isfinite(second).all((-2, -1)))
    values = np.ones(first.shape[:-1])
    regular = np.zeros(len(first), dtype=np.bool_)
    values[finite], regular[finite] = _relative(first[finite], second[finite], device)
    squares = 0.5 * np.square(np.log(values)).sum(-1)
    chances = chance_square(
        values, np.array([one.n for one in before]), np.array([one.n for one in now])
    )
    return [
        SquaredDistance(float(square), float(chance), "")
        if is_regular
        else SquaredDistance(0.0, 0.0, "singular" if is_finite else "nan")
        for square, chance, is_regular, is_finite in zip(
            squares, chances, regular, finite, strict=True
        )
    ]


def pair_reason(first: Moments, second: Moments) -> str:
    """Return why two moments cannot be compared, or ``""``."""
    reason = _plain_reason(first, second)
    if not reason and not all(np.isfinite(one.covariance()).all() for one in (first, second)):
        return "nan"
    return reason


def _plain_reason(first: Moments, second: Moments) -> str:
    """Return `pair_reason`, but for covariances that are not finite."""
    if first.d != second.d:
        return "d"
    for one in (first, second):
        finite = np.isfinite(one.outer).all() and np.isfinite(one.total).all()
        if not (math.isfinite(one.n) and finite):
            return "nan"
    return "n" if first.d == 0 or min(first.n, second.n) <= first.d + 1 else ""


def _relative(
    first: FloatArray, second: FloatArray, device: str | torch.device
) -> tuple[FloatArray, BoolArray]:
    """Return `relative_eigenvalues`, by the shorter way where that loses nothing."""
    values = np.ones(first.shape[:-1])
    regular = np.zeros(len(first), dtype=np.bool_)
    rest = np.ones(len(first), dtype=np.bool_)
    if runs_alone(first.shape[-1], device):
        with np.errstate(over="ignore", invalid="ignore"):
            white, is_white = _whitened(first, second)
        rest = ~is_white
        found = symmetric_eigenvalues(white, device)
        regular[is_white] = found[:, 0] > SINGULAR * found[:, -1]
        values[is_white] = np.where(regular[is_white, None], found, 1.0)
    if rest.any():
        sides = [torch.from_numpy(side[rest]).to(device) for side in (first, second)]
        slow_values, slow_regular = relative_eigenvalues(*sides)
        values[rest], regular[rest] = slow_values.cpu().numpy(), slow_regular.cpu().numpy()
    return values, regular


def _whitened(first: FloatArray, second: FloatArray) -> tuple[FloatArray, BoolArray]:
    """Return ``second`` of the items whose ``first`` is well conditioned, whitened by it; and which.

    By the triangular root of the first's correlations, whose eigenvalues add up to d, so that
    d times the sum of squares of its inverse is a bound of their condition.
    """
    white = np.empty_like(second)
    fit = np.zeros(len(first), dtype=np.bool_)
    # One by one they stay in the cache.
    for i, (one, other) in enumerate(zip(first, second, strict=True)):
        variance = one.diagonal()
        if not (variance > 0).all():
            continue
        scale = np.sqrt(variance)
        outer = scale[:, None] * scale
        root, fault = dpotrf((one / outer).T, lower=1, clean=1, overwrite_a=1)
        if fault:
            continue
        inverse, _ = dtrtri(root, lower=1, overwrite_c=1)
        if one.shape[-1] * np.square(inverse).sum() > WELL:
            continue
        found = inverse @ (other / outer) @ inverse.T
        white[i] = (found + found.T) / 2.0
        fit[i] = True
    return white[fit], fit


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
    finite = relative.isfinite().all(-1).all(-1)
    regular &= finite
    relative = torch.where(finite[:, None, None], relative, eye)
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


def chance_square(
    values: FloatArray, first: FloatArray | float, second: FloatArray | float
) -> FloatArray:
    """Return what sampling adds to 1/2 sum ln^2 l on average.

    First order by perturbation: for a spectral function F of a Wishart covariance the bias of
    order 1/n is sum_i l_i^2 F_ii + sum_{i<j} l_i l_j (F_i - F_j) / (l_i - l_j). With g = ln l this
    gives 1 -+ g_i a direction and, a pair, (l_j g_i - l_i g_j) / (l_i - l_j) for the second sample
    and (l_i g_i - l_j g_j) / (l_i - l_j) for the first. Without change that is
    d (d+1)/2 (1/n + 1/m); a change makes it grow, as distances in a space of negative curvature do.
    With h = g_i - g_j the two quotients of a pair are [h coth(h/2) +- (g_i + g_j)] / 2.

    Second order, as found by simulation without change (d = 1 .. 150): the same times
    (d/n + d/m)(1/6 + 1/d). With it, no more than 0.6 % is missing at n = m = 8d.

    Args:
        values: Relative eigenvalues of second to first, ``(..., d)``, above 0.
        first: Rows of the first sample, ``(...)``.
        second: Rows of the second.

    Returns:
        One number per set of values, ``(...)``.
    """
    log = np.log(values)
    d = int(values.shape[-1])
    i, j = np.triu_indices(d, 1)
    half = 0.5 * (log[..., i] - log[..., j])
    near = np.abs(half) < NEAR
    # For equal values it tends to 1.
    pairs = np.where(near, 1.0, half / np.tanh(np.where(near, 1.0, half))).sum(-1)
    # Every direction's logarithm is in d - 1 pairs, half of it each time.
    logs = 0.5 * (d + 1) * log.sum(-1)
    spread = d / first + d / second
    found: FloatArray = (
        (d + pairs + logs) / first
        + (d + pairs - logs) / second
        + 0.5 * (d + 1) * spread**2 * (1.0 / 6.0 + 1.0 / d)
    )
    return found
