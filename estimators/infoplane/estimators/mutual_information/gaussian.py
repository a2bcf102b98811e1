"""Mutual information of jointly Gaussian vectors, with the exact finite-sample correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.joint_correlation import (
    SMALLEST_PIVOT,
    cholesky_root,
    information_bias,
    information_variance,
    joint_correlation,
    whitened_cross,
)
from infoplane.estimators.mutual_information.pairings import row_orders
from infoplane.estimators.mutual_information.verdicts import (
    SATURATION,
    constant_items,
    nonfinite_items,
    null_of,
)
from infoplane.estimators.state.moments import Moments

ESTIMATOR = "gaussian"
VERSION = 1


@dataclass(frozen=True, slots=True)
class _Whitened:
    """Rows of unit covariance: ``rows (t, n, d)``, columns that vary, and what failed."""

    rows: Tensor
    width: Tensor
    singular: Tensor


def gaussian_mi(
    x: Tensor, y: Tensor, *, seeds: Sequence[int], permutations: int = 4
) -> list[Estimate]:
    """Return I(X;Y) in nats for every item, as if rows were jointly Gaussian.

    -1/2 ln det(I - M^T M), M the whitened cross-covariance, less its expectation bias
    1/2 [f(dx) + f(dy) - f(dx + dy)], f(d) = sum_{i=1..d} psi((n - i) / 2), which is exact for
    Gaussian rows (the log-determinant of a Wishart matrix). Reads far too high on clustered
    data, so it is a companion of `heldout_ksg`, not a replacement.

    Null: random re-pairings. Ceiling: 1/2 ln n for each of min(dx, dy) directions, because n
    rows do not resolve 1 - rho^2 below 1/n; saturated above 0.8 of it. Band: value +- 1.96
    sqrt(sum rho^2 / n + dx dy / 2n^2), the sampling error for independent Gaussian rows.

    Undefined: ``"n"`` when n < dx + dy + 2, ``"nan"``, ``"constant"``, ``"singular"`` when
    columns of one side, or x and y together, are linearly dependent. Columns that do not vary
    are left out.

    Args:
        x: Shape ``(t, n, dx)``.
        y: Shape ``(t, n, dy)``.
        seeds: One per item, for the permutations.
        permutations: Draws of the null; 0 for none.

    Returns:
        ``t`` estimates. Cost O(t (1 + permutations) n dx dy).

    Raises:
        ValueError: If shapes or the number of seeds do not fit.
    """
    _check(x, y, seeds)
    t, n, _ = x.shape
    early = _early_reasons(x, y)
    if t == 0 or n < 3:
        return [_missing(reason or "n", n, x.shape[-1], y.shape[-1]) for reason in early]
    a, b = _whitened(x), _whitened(y)
    orders = row_orders(seeds, n, permutations=permutations, device=x.device)
    orders[:, 0] = torch.arange(n, device=x.device)
    bias = _bias(a.width, b.width, n)
    values, energy, singular = [], torch.zeros(t), a.singular | b.singular
    for j in range(1 + permutations):
        index = orders[:, j].unsqueeze(-1).expand(-1, -1, y.shape[-1])
        cross = a.rows.mT @ b.rows.gather(1, index) / (n - 1)
        information, dependent = _information(cross)
        values.append(information - bias)
        if j == 0:
            energy, singular = cross.square().sum((-2, -1)), singular | dependent
    rows = torch.stack(values, -1).tolist()
    error = (energy / n + a.width * b.width / (2.0 * n * n)).sqrt().tolist()
    directions = torch.minimum(a.width, b.width).tolist()
    flags = singular.tolist()
    widths = (x.shape[-1], y.shape[-1])
    return [
        _missing(early[i], n, *widths)
        if early[i]
        else _missing("singular", n, *widths)
        if flags[i]
        else _estimate(
            rows[i][0],
            error[i],
            null_of(rows[i][1:]),
            0.5 * math.log(n) * directions[i],
            n,
            *widths,
        )
        for i in range(t)
    ]


def gaussian_mi_of_moments(joint: Sequence[Moments], width_x: int) -> list[Estimate]:
    """Return what `gaussian_mi` gives, from moments of x and y side by side.

    Moments of shards add, so that the information of all rows needs no row. Value, ceiling,
    band and undefined reasons are those of `gaussian_mi` on the same rows, to 1e-9 while no
    mean is far larger than its spread. A column counts as constant when its variance is
    within rounding of zero.

    Null: analytic, 0 on average for independent Gaussian rows, with their exact standard
    deviation (a sum of trigamma differences, about sqrt(dx dy / 2) / n).

    Args:
        joint: One per item, widths dx + dy; widths may differ between items.
        width_x: dx, the columns of x, which come first.

    Returns:
        One estimate per item; n is rounded down. Cost O((dx + dy)^3) each, in float64.

    Raises:
        ValueError: If ``width_x`` is not within 0 and every item's width.
    """
    for item in joint:
        if not 0 <= width_x <= item.d:
            raise ValueError(f"width_x: expected 0 to the joint width {item.d}, got {width_x}")
    return [_of_moments(item, width_x) for item in joint]


def _of_moments(joint: Moments, width_x: int) -> Estimate:
    widths = (width_x, joint.d - width_x)
    correlation = joint_correlation(joint)
    n, varies = correlation.n, correlation.varies
    dx, dy = int(varies[:width_x].sum()), int(varies[width_x:].sum())
    reason = correlation.reason or ("" if dx and dy else "constant")
    if reason:
        return _missing(reason, int(n), *widths)
    cross = whitened_cross(correlation.matrix, width_x)
    root = None if cross is None else cholesky_root(np.eye(widths[1]) - cross.T @ cross)
    if cross is None or root is None:
        return _missing("singular", int(n), *widths)
    value = -float(np.log(root.diagonal()).sum()) - information_bias(n, dx, dy)
    error = math.sqrt(float(np.square(cross).sum()) / n + dx * dy / (2.0 * n * n))
    null = (0.0, math.sqrt(information_variance(n, dx, dy)))
    ceiling = 0.5 * math.log(n) * min(dx, dy)
    return _estimate(value, error, null, ceiling, int(n), *widths)


def _check(x: Tensor, y: Tensor, seeds: Sequence[int]) -> None:
    if x.ndim != 3 or x.shape[:2] != y.shape[:2]:
        raise ValueError(f"x, y: expected (t, n, d) of equal t and n, got {x.shape}, {y.shape}")
    if len(seeds) != x.shape[0]:
        raise ValueError(f"seeds: expected {x.shape[0]}, one per item, got {len(seeds)}")


def _early_reasons(x: Tensor, y: Tensor) -> list[str]:
    n = x.shape[1]
    if n < x.shape[-1] + y.shape[-1] + 2:
        return ["n"] * x.shape[0]
    flags = zip(nonfinite_items(x, y), constant_items(x), constant_items(y), strict=True)
    return ["nan" if nan else "constant" if cx or cy else "" for nan, cx, cy in flags]


def _whitened(x: Tensor) -> _Whitened:
    n = x.shape[1]
    rows = torch.where(x.isfinite(), x, 0.0).to(torch.float64)
    varies = (rows != rows[:, :1]).any(1)
    rows = (rows - rows.mean(1, keepdim=True)) * varies.unsqueeze(1)
    spread = rows.square().sum(1).div(n - 1).sqrt()
    rows = rows / torch.where(varies, spread, 1.0).unsqueeze(1)
    # Columns that do not vary get a unit of their own, so that the factor exists.
    covariance = rows.mT @ rows / (n - 1) + torch.diag_embed((~varies).to(rows.dtype))
    root, info = torch.linalg.cholesky_ex(covariance)
    singular = (info > 0) | ~(root.diagonal(dim1=-2, dim2=-1).amin(-1) > SMALLEST_PIVOT)
    eye = torch.eye(x.shape[-1], dtype=rows.dtype, device=x.device)
    root = torch.where(singular[:, None, None], eye, root)
    white = torch.linalg.solve_triangular(root, rows.mT, upper=False).mT
    return _Whitened(white, varies.sum(-1).to(torch.float64), singular)


def _information(cross: Tensor) -> tuple[Tensor, Tensor]:
    """Return -1/2 ln det(I - M^T M) and where it is not finite, for ``M (t, dx, dy)``."""
    if cross.shape[-2] < cross.shape[-1]:
        cross = cross.mT
    eye = torch.eye(cross.shape[-1], dtype=cross.dtype, device=cross.device)
    root, info = torch.linalg.cholesky_ex(eye - cross.mT @ cross)
    pivots = root.diagonal(dim1=-2, dim2=-1)
    dependent = (info > 0) | ~(pivots.amin(-1) > SMALLEST_PIVOT)
    return -torch.where(dependent.unsqueeze(-1), 1.0, pivots).log().sum(-1), dependent


def _bias(dx: Tensor, dy: Tensor, n: int) -> Tensor:
    """Return 1/2 [f(dx) + f(dy) - f(dx + dy)] for widths of every item."""
    widest = int((dx + dy).max())
    steps = torch.arange(1, widest + 1, dtype=torch.float64, device=dx.device)
    f = torch.cat([steps.new_zeros(1), torch.digamma((n - steps) / 2.0).cumsum(0)])
    return 0.5 * (f[dx.long()] + f[dy.long()] - f[(dx + dy).long()])


def _estimate(
    value: float,
    error: float,
    null: tuple[float | None, float | None],
    ceiling: float,
    n: int,
    dx: int,
    dy: int,
) -> Estimate:
    return Estimate(
        value=value,
        unit="nats",
        n=n,
        estimator=ESTIMATOR,
        version=VERSION,
        null_mean=null[0],
        null_sd=null[1],
        ceiling=ceiling,
        saturated=value > SATURATION * ceiling,
        band=(value - 1.96 * error, value + 1.96 * error),
        parameters={"dx": dx, "dy": dy},
    )


def _missing(reason: str, n: int, dx: int, dy: int) -> Estimate:
    return Estimate.missing(
        reason,
        unit="nats",
        n=n,
        estimator=ESTIMATOR,
        version=VERSION,
        parameters={"dx": dx, "dy": dy},
    )
