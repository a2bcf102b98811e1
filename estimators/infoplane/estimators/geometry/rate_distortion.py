"""Description length of a representation: rate at a distortion, and directions at a residual.

Both stand in for the code length of a tokeniser ("Single-pass Adaptive Image Tokenization for
Minimum Program Search", Duggal et al., 2025): a Gaussian with the rows' covariance needs R(D)
bits a row, by reverse water-filling over its eigenvalues (Cover and Thomas, "Elements of
Information Theory", section 10.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from infoplane.estimators.estimate import Estimate, Unit
from infoplane.estimators.geometry.spectrum import FloatArray, Spectrum, spectra_of
from infoplane.estimators.state.moments import Moments

RATE = "rate_distortion"
RANK = "epsilon_rank"
VERSION = 1
ROUNDING = 1e-12
"""Share of the variance below which a sum of eigenvalues is rounding."""


def representation_rate(
    moments: Sequence[Moments] | Sequence[Spectrum],
    *,
    distortion: float = 0.05,
    device: str | torch.device = "cpu",
) -> list[Estimate]:
    """Return the bits a row takes when a share ``distortion`` of the total variance may be lost.

    R = sum over l_i > theta of 1/2 log2(l_i / theta), with theta such that
    sum min(l_i, theta) = distortion x sum l. Rotation, scale and shift change nothing. Sample
    eigenvalues spread, which reads low; the bias of order 1/n for independent Gaussian rows (see
    `_correction`) is added back, with sample eigenvalues in place of true ones. It means little
    when n < 2d, and too little is added for correlated rows: hold n fixed.

    Null: none. Ceiling: r/2 log2(1 / distortion), which r equal eigenvalues reach, r the smaller
    of d and n - 1; ``saturated`` when n is the smaller. Band: value +- 1.96 standard errors,
    first order, for independent Gaussian rows.

    Undefined: ``"n"`` below 2 rows or without columns, ``"nan"``, ``"constant"``.

    Args:
        moments: One per item, or its spectrum; widths may differ.
        distortion: Above 0, below 1.
        device: Where eigenvalues are computed, in float64.

    Returns:
        One estimate per item, n the number of rows. Cost O(d^3) each.

    Raises:
        ValueError: If the distortion is not between 0 and 1.
    """
    _check("distortion", distortion)
    return [
        _missing(item, "bits", RATE, {"distortion": distortion})
        if item.reason
        else _rate(item, distortion)
        for item in spectra_of(moments, device)
    ]


def epsilon_rank(
    moments: Sequence[Moments] | Sequence[Spectrum],
    *,
    eps: float = 0.05,
    device: str | torch.device = "cpu",
) -> list[Estimate]:
    """Return the least number of directions that leave at most a share ``eps`` of the variance.

    Unit 1. Null: none. Ceiling: d, or n - 1 when that is smaller; ``saturated`` when it is
    smaller and reached. Band: the ranks at ``eps`` plus and minus 1.96 standard errors (first
    order, independent Gaussian rows) of the share that the value's directions leave; it holds
    whole numbers and the value. Sample eigenvalues spread, so that few rows read low: 59 in
    place of 61 for 64 equal variances at n = 1024.

    Undefined, arguments, cost and errors as in `representation_rate`.
    """
    _check("eps", eps)
    return [
        _missing(item, "1", RANK, {"eps": eps}) if item.reason else _rank(item, eps)
        for item in spectra_of(moments, device)
    ]


def _rate(item: Spectrum, distortion: float) -> Estimate:
    spectrum = item.eigenvalues / item.eigenvalues.sum()
    theta = _water_level(spectrum, distortion)
    wet = spectrum > theta
    value = float(0.5 * np.log2(spectrum[wet] / theta).sum())
    freedom = item.n - 1.0
    slope = 0.5 / np.maximum(spectrum, theta) - 0.5 * distortion / theta
    # An eigenvalue l has variance 2 l^2 / (n - 1).
    error = math.sqrt(2.0 * float(np.square(slope * spectrum).sum()) / freedom) / math.log(2)
    limit = min(item.d, max(int(freedom), 1))
    widest = 0.5 * math.log2(1.0 / distortion)
    bias = _correction(spectrum, wet, theta, distortion) / (freedom * math.log(2))
    value = min(value + max(bias, 0.0), widest * limit)
    return Estimate(
        value=value,
        unit="bits",
        n=int(item.n),
        estimator=RATE,
        version=VERSION,
        ceiling=widest * limit,
        saturated=limit < item.d,
        band=(value - 1.96 * error, value + 1.96 * error),
        parameters={"d": item.d, "distortion": distortion},
    )


def _correction(
    spectrum: FloatArray, wet: npt.NDArray[np.bool_], theta: float, distortion: float
) -> float:
    """Return minus the bias of R in nats, times n - 1.

    For a spectral function F of a Wishart covariance the bias of order 1/n is
    sum_i l_i^2 F_ii + sum_{i<j} l_i l_j (F_i - F_j) / (l_i - l_j), subscripts being derivatives
    in eigenvalues. Here F_i = 1 / (2 max(l_i, theta)) - D / (2 theta), where theta moves by D / m
    with one of the m eigenvalues above it and by (D - 1) / m with one below.
    """
    m = int(wet.sum())
    high, low = spectrum[wet], spectrum[~wet]
    level = distortion**2 * np.square(high).sum() + (1.0 - distortion) ** 2 * np.square(low).sum()
    own = -0.5 * m + level / (2.0 * m * theta**2)
    both_high = -0.25 * m * (m - 1)
    gap = high[:, None] - low[None, :]
    # High eigenvalues lie above theta and low ones do not, so the gap is never 0.
    across = low[None, :] * (high[:, None] - theta) / gap
    return -float(own + both_high - across.sum() / (2.0 * theta))


def _rank(item: Spectrum, eps: float) -> Estimate:
    shares = item.eigenvalues[::-1] / item.eigenvalues.sum()
    left = np.maximum(1.0 - np.cumsum(shares), 0.0)
    value = _first(left, eps)
    inside = (np.arange(item.d) >= value) - left[value - 1]
    error = math.sqrt(2.0 * float(np.square(shares * inside).sum()) / (item.n - 1.0))
    limit = min(item.d, max(int(item.n) - 1, 1))
    return Estimate(
        value=float(value),
        unit="1",
        n=int(item.n),
        estimator=RANK,
        version=VERSION,
        ceiling=float(limit),
        saturated=limit < item.d and value >= limit,
        band=(
            float(_first(left, eps + 1.96 * error)),
            float(min(_first(left, eps - 1.96 * error), limit)),
        ),
        parameters={"d": item.d, "eps": eps},
    )


def _first(left: FloatArray, allowed: float) -> int:
    """Return the least rank that leaves at most ``allowed``, all when none does."""
    # Rounding of the sum must not ask for one more direction.
    enough = left <= allowed + ROUNDING
    return int(np.argmax(enough)) + 1 if enough.any() else int(left.size)


def _water_level(spectrum: FloatArray, allowed: float) -> float:
    """Return theta with sum min(l, theta) = allowed, for ascending eigenvalues l."""
    below = np.concatenate([[0.0], np.cumsum(spectrum)[:-1]])
    levels = (allowed - below) / np.arange(spectrum.size, 0, -1)
    # The level is that of the first eigenvalue it does not cover.
    return float(levels[int(np.argmax(levels <= spectrum))])


def _check(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name}: expected a number between 0 and 1, got {value}")


def _missing(
    item: Spectrum, unit: Unit, estimator: str, parameters: dict[str, float | int | str]
) -> Estimate:
    return Estimate.missing(
        item.reason,
        unit=unit,
        n=int(item.n),
        estimator=estimator,
        version=VERSION,
        parameters={"d": item.d, **parameters},
    )
