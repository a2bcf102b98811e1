"""How far a representation has moved, as the Fisher-Rao distance of Gaussians.

"Perceptual Scales Predicted by Fisher Information Metrics" (Vacher and Mamassian, ICLR 2024)
measures scales by the integral of the root of Fisher information, which is the length of a path
in this distance. Covariances and means are kept apart: together they have no closed form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.geometry.categorical_fisher import (
    categorical_fisher,
    policy_fisher_step,
    policy_fisher_step_of_kl,
)
from infoplane.estimators.geometry.covariance_distance import (
    SINGULAR,
    SquaredDistance,
    pair_reason,
    squared_distances,
    still_square,
)
from infoplane.estimators.state.moments import Moments

__all__ = [
    "categorical_fisher",
    "depth_profile",
    "fisher_mean_step",
    "fisher_step",
    "policy_fisher_step",
    "policy_fisher_step_of_kl",
    "split_half_distance",
]

STEP = "fisher_step"
MEAN_STEP = "fisher_mean_step"
SPLIT_HALF = "fisher_split_half"
DEPTH_STEP = "fisher_depth_step"
VERSION = 1
ROOT_MEAN = 2.0**0.25 * math.gamma(0.75) / (2.0 * math.sqrt(math.pi))
"""Mean of sqrt(max(z, 0)) for a standard normal z, 0.411."""
ROOT_SD = math.sqrt(1.0 / math.sqrt(2.0 * math.pi) - ROOT_MEAN**2)
"""Its standard deviation, 0.479."""


def fisher_step(
    now: Sequence[Moments],
    before: Sequence[Moments],
    *,
    split: Sequence[float] | None = None,
    device: str | torch.device = "cpu",
) -> list[Estimate]:
    """Return the Fisher-Rao distance of every item's covariance from its covariance before.

    sqrt(1/2 sum ln^2 l), l the eigenvalues of one covariance relative to the other: unit 1, the
    same in all coordinates, 3 sqrt(d/2) for a factor of e^3. Two samples of one Gaussian are apart
    by chance: about d (d+1)/2 (1/n + 1/m) in the square, and more after a change
    (`chance_square`). That is taken off the square and the rest cut at 0. The correction is of
    second order: have n >= 8 d. Rows of one sequence are correlated, so that n overstates what is known;
    ``split`` measures by how much.

    Null (analytic): the value of two windows of one Gaussian. The cut at 0 leaves a mean above 0,
    0.41 sqrt(s), with s the standard deviation of the square. Ceiling: none. Band: the square
    +- 1.96 s, cut at 0, under the root; s^2 = c^2 d (d+1) + 4 c square, c = 1/n + 1/m (times the
    excess of ``split``).

    Undefined: ``"d"`` for widths that differ, ``"nan"``, ``"n"`` when a side has at most d + 1
    rows or no columns, ``"singular"`` when a direction does not vary.

    Args:
        now: One per item.
        before: The same items earlier.
        split: Distance by chance of windows as large as these, one per item: the values of
            `split_half_distance`. None, or NaN for an item: the analytic one.
        device: Where eigenvalues are computed, in float64.

    Returns:
        One estimate per item, n the smaller number of rows. Cost O(d^3) each.

    Raises:
        ValueError: If the numbers of items differ.
    """
    if split is not None and len(split) != len(now):
        raise ValueError(f"split: expected {len(now)} distances, got {len(split)}")
    given = [math.nan] * len(now) if split is None else split
    return [
        _step(square, a, b, chance, STEP)
        for square, a, b, chance in zip(
            squared_distances(now, before, device=device), now, before, given, strict=True
        )
    ]


def depth_profile(taps: Sequence[Moments], *, device: str | torch.device = "cpu") -> list[Estimate]:
    """Return the distance of every tap's covariance from that of the tap before it.

    As `fisher_step`, for taps in the order of depth and in one coordinate system, such as a
    residual stream seen through one projection. Taps that see the same rows share part of their
    chance, so that a little too much is taken off.

    Returns:
        One estimate fewer than taps, the first for the second tap.
    """
    found = squared_distances(taps[1:], taps[:-1], device=device)
    return [
        _step(square, a, b, math.nan, DEPTH_STEP)
        for square, a, b in zip(found, taps[1:], taps[:-1], strict=True)
    ]


def split_half_distance(
    first: Sequence[Moments],
    second: Sequence[Moments],
    *,
    device: str | torch.device = "cpu",
) -> list[Estimate]:
    """Return how far two whole windows are apart by chance, judged by two parts of one window.

    The parts must not share sequences: rows of one sequence resemble each other, and that
    resemblance is what the analytic null does not know. The square of the parts' distance over what
    independent rows would give (`still_square`, about c (1/n + 1/m)) is an excess; the value is that
    excess times what windows of n + m rows would give, under the root; unit 1.

    Null (analytic): the distance by chance for independent Gaussian rows. Ceiling: none. Band:
    1.96 standard deviations of the square, under the root. Undefined as in `fisher_step`.

    Args:
        first: One per item, part of a window.
        second: The other part.
        device: Where eigenvalues are computed, in float64.

    Returns:
        One estimate per item, n the rows of both parts.

    Raises:
        ValueError: If the numbers of items differ.
    """
    found = squared_distances(first, second, device=device)
    return [_split(*item) for item in zip(found, first, second, strict=True)]


def fisher_mean_step(
    now: Sequence[Moments], before: Sequence[Moments], *, device: str | torch.device = "cpu"
) -> list[Estimate]:
    """Return the Fisher-Rao distance of the means, at the covariance that both samples share.

    sqrt(m' S^-1 m), m the difference of the means and S the pooled covariance: unit 1. The square
    is unbiased for independent Gaussian rows (Hotelling's T^2 over its mean factor, less
    d (1/n + 1/m)) and cut at 0. Read beside `fisher_step`, which does not see the means.

    Null, ceiling, band, undefined, arguments and errors as in `fisher_step`, with
    s^2 = 2 c^2 d + 4 c square + 2 square^2 / (n + m - 2).
    """
    if len(now) != len(before):
        raise ValueError(
            f"now, before: expected as many items each, got {len(now)} and {len(before)}"
        )
    return [_mean_step(a, b, device) for a, b in zip(now, before, strict=True)]


def _step(
    found: SquaredDistance, now: Moments, before: Moments, split: float, estimator: str
) -> Estimate:
    """Return the corrected distance; ``split`` is the distance by chance, NaN for the analytic."""
    measured = math.isfinite(split)
    parameters = {"d": now.d, "chance": "split" if measured else "analytic"}
    if found.reason:
        return _missing(found.reason, now, before, estimator, parameters)
    still = still_square(now.d, now.n, before.n)
    excess = split**2 / still if measured else 1.0
    unit = excess * (1.0 / now.n + 1.0 / before.n)
    return _rooted(
        found.square - excess * found.chance,
        unit,
        now.d * (now.d + 1) / 2,
        n=_rows(now, before),
        estimator=estimator,
        parameters=parameters,
    )


def _rooted(
    square: float,
    unit: float,
    freedom: float,
    *,
    relative: float = 0.0,
    n: int,
    estimator: str,
    parameters: Mapping[str, float | int | str],
) -> Estimate:
    """Return the root of a corrected square, which is noise in ``freedom`` directions.

    In each the difference has variance ``unit``, so that the square has variance
    2 freedom unit^2 + 4 unit square, and ``relative`` square^2 for an uncertain scale.
    """
    still = unit * math.sqrt(2.0 * freedom)
    held = max(square, 0.0)
    error = 1.96 * math.sqrt(still**2 + 4.0 * unit * held + relative * held**2)
    return Estimate(
        value=math.sqrt(max(square, 0.0)),
        unit="1",
        n=n,
        estimator=estimator,
        version=VERSION,
        null_mean=ROOT_MEAN * math.sqrt(still),
        null_sd=ROOT_SD * math.sqrt(still),
        band=(math.sqrt(max(square - error, 0.0)), math.sqrt(max(square + error, 0.0))),
        parameters=parameters,
    )


def _split(found: SquaredDistance, first: Moments, second: Moments) -> Estimate:
    parameters = {"d": first.d}
    if found.reason:
        return _missing(found.reason, first, second, SPLIT_HALF, parameters)
    rows = first.n + second.n
    still = still_square(first.d, rows, rows)
    square = found.square * still / still_square(first.d, first.n, second.n)
    freedom = first.d * (first.d + 1) / 2
    spread = square * math.sqrt(2.0 / freedom)
    return Estimate(
        value=math.sqrt(square),
        unit="1",
        n=int(rows),
        estimator=SPLIT_HALF,
        version=VERSION,
        null_mean=math.sqrt(still),
        band=(
            math.sqrt(max(square - 1.96 * spread, 0.0)),
            math.sqrt(square + 1.96 * spread),
        ),
        parameters=parameters,
    )


def _mean_step(now: Moments, before: Moments, device: str | torch.device) -> Estimate:
    parameters = {"d": now.d}
    reason = pair_reason(now, before)
    if reason:
        return _missing(reason, now, before, MEAN_STEP, parameters)
    freedom = now.n + before.n - 2.0
    pooled = ((now.n - 1.0) * now.covariance() + (before.n - 1.0) * before.covariance()) / freedom
    moved = now.mean() - before.mean()
    scale = np.sqrt(np.maximum(np.diagonal(pooled), 0.0))
    if not (scale > 0).all():
        return _missing("singular", now, before, MEAN_STEP, parameters)
    correlation = torch.from_numpy(pooled / np.outer(scale, scale)).to(device)
    root, fault = torch.linalg.cholesky_ex(correlation)
    if int(fault) or float(root.diagonal().square().min()) < SINGULAR:
        return _missing("singular", now, before, MEAN_STEP, parameters)
    side = torch.from_numpy(moved / scale).to(device).unsqueeze(-1)
    white = torch.linalg.solve_triangular(root, side, upper=False)
    unit = 1.0 / now.n + 1.0 / before.n
    square = float(white.square().sum()) * (freedom - now.d - 1.0) / freedom - now.d * unit
    return _rooted(
        square,
        unit,
        now.d,
        relative=2.0 / freedom,
        n=_rows(now, before),
        estimator=MEAN_STEP,
        parameters=parameters,
    )


def _rows(now: Moments, before: Moments) -> int:
    n = min(now.n, before.n)
    return int(n) if math.isfinite(n) else 0


def _missing(
    reason: str,
    now: Moments,
    before: Moments,
    estimator: str,
    parameters: Mapping[str, float | int | str],
) -> Estimate:
    return Estimate.missing(
        reason,
        unit="1",
        n=_rows(now, before),
        estimator=estimator,
        version=VERSION,
        parameters=parameters,
    )
