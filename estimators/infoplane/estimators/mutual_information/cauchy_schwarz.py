"""Cauchy-Schwarz quadratic mutual information, and its normalised form.

QMI(X;Y) = ln <p, p> + ln <q, q> - 2 ln <p, q>, the Cauchy-Schwarz divergence between the joint
density p and the product q of the marginals, both smoothed by a Gaussian kernel (Yu et al.,
"Cauchy-Schwarz Divergence Information Bottleneck for Regression", ICLR 2024). It is not a Shannon
information: its size depends on kernel width and dimension, so the normalised form is for plots.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate, Unit
from infoplane.estimators.mutual_information.fourier_sums import sums_of_moments, sums_of_rows
from infoplane.estimators.mutual_information.gram_sums import (
    PairSums,
    gram_sums,
    jackknife_error,
    median_distances,
)
from infoplane.estimators.mutual_information.pairings import row_orders
from infoplane.estimators.mutual_information.verdicts import (
    constant_items,
    nonfinite_items,
    null_of,
)
from infoplane.estimators.state.fourier import FourierFeatures, FourierMoments

VERSION = 1
BITS, RATIO = "cs_qmi", "cs_qmi_ratio"
UNITS: dict[str, Unit] = {BITS: "bits", RATIO: "ratio"}
MIN_ROWS = 32
Method = Literal["exact", "fourier"]
Statistic = Literal["U", "V"]
Parameters = dict[str, float | int | str]


@dataclass(frozen=True, slots=True)
class CauchySchwarz:
    """Both readings of one pair.

    Attributes:
        bits: QMI(X;Y) in bits.
        ratio: QMI(X;Y) / sqrt(QMI(X;X) QMI(Y;Y)); 1 for y = x.
    """

    bits: Estimate
    ratio: Estimate


@dataclass(frozen=True, slots=True)
class _Numbers:
    """Per item, nats: information, own information of x and y, error, null draws, sparseness."""

    pair: list[float]
    own: list[float]
    errors: list[float] | None
    ratio_errors: list[float] | None
    nulls: list[list[float]]
    sparse: list[bool]


def cs_qmi(
    x: Tensor,
    y: Tensor,
    *,
    bandwidths: Sequence[tuple[float, float]] | None,
    seeds: Sequence[int],
    permutations: int = 1,
    method: Method = "exact",
    features: int = 1024,
    statistic: Statistic = "U",
) -> list[CauchySchwarz]:
    """Return the Cauchy-Schwarz QMI of every pair of rows' sides, and its normalised form.

    With ``statistic = "U"`` every inner product is estimated without pairs of a row with
    itself and is unbiased; independent sides read 0 on average whatever the kernel. The published
    code's form is ``"V"``: independent 16-d data at sigma = 1 read 9.6 bits, at the median
    distance 0.0006.

    Null: random re-pairings, same kernel. Ceiling: sqrt(QMI(X;X) QMI(Y;Y)) for the bits and 1
    for the ratio, which y = x reaches. ``saturated``: a row's kernel mass on all other rows is
    below 1 on average, on one side, so that the kernel is too narrow for n rows. Band: value
    +- 1.96 standard errors by leaving out each of 16 runs of consecutive rows, which allows for
    correlation within a run; none with ``"fourier"``.

    Undefined: ``"n"`` below 32 rows, ``"nan"``, ``"constant"`` when one side does not vary (or,
    for the ratio alone, has no information about itself), ``"duplicates"`` when the median distance is 0,
    ``"bandwidth"`` when an inner product is not positive because no rows are near each other.

    Args:
        x: Shape ``(t, n, dx)``, on any device.
        y: Shape ``(t, n, dy)``.
        bandwidths: Kernel widths (sigma of x, of y) per item; None for the median distance of
            each side in this item. They are in ``parameters`` as ``sigma_x`` and ``sigma_y``:
            take those of a reference window and keep them, else the series drifts with scale.
        seeds: One per item, for the permutations.
        permutations: Draws of the null; 0 for none.
        method: ``"exact"`` Gram matrices, or ``"fourier"`` features (see `FourierMoments`).
        features: Features a side of ``"fourier"``, a multiple of 4.
        statistic: ``"U"`` or ``"V"``.

    Returns:
        ``t`` pairs of estimates. Cost O(t n^2 (dx + (1 + permutations) dy)) exact, in blocks;
        O(t (1 + permutations) n features^2) fourier; float64.

    Raises:
        ValueError: If shapes, the number of seeds or bandwidths, or a setting do not fit.
    """
    _check(x, y, bandwidths, seeds, method, statistic)
    t, n, dx = x.shape
    settings: Parameters = {"dx": dx, "dy": y.shape[-1], "method": method, "statistic": statistic}
    settings["bandwidth"] = "median" if bandwidths is None else "given"
    if method == "fourier":
        settings |= {"features": features, "feature_seed": 0}
    if n < MIN_ROWS or t == 0:
        return [_missing("n", n, settings)] * t
    bad = nonfinite_items(x, y)
    x, y = (torch.where(side.isfinite(), side, 0.0) for side in (x, y))
    sigma_x, sigma_y, reasons = _widths(x, y, bandwidths, bad)
    orders = row_orders(seeds, n, permutations=permutations, device=x.device)[:, 1:]
    if method == "exact":
        numbers = _exact(x, y, sigma_x, sigma_y, orders, statistic)
    else:
        numbers = _fourier(x, y, sigma_x, sigma_y, orders, statistic, features)
    widths = list(zip(sigma_x.tolist(), sigma_y.tolist(), strict=True))
    return [
        _missing(reasons[i], n, settings)
        if reasons[i]
        else _readings(
            numbers, i, n, {**settings, "sigma_x": widths[i][0], "sigma_y": widths[i][1]}
        )
        for i in range(t)
    ]


def cs_qmi_of_fourier(moments: FourierMoments, *, statistic: Statistic = "U") -> CauchySchwarz:
    """Return the QMI of merged Fourier moments: what `cs_qmi` gives for all rows together.

    No null and no band: moments do not hold rows. With ``"U"`` the null's mean is 0. Undefined:
    ``"n"`` below 32 rows, ``"constant"``, ``"bandwidth"``.
    """
    maps = moments.maps
    settings: Parameters = {
        "dx": maps.dx,
        "dy": maps.dy,
        "method": "fourier",
        "statistic": statistic,
        "bandwidth": "given",
        "features": maps.features,
        "feature_seed": maps.seed,
    }
    if moments.n < MIN_ROWS:
        return _missing("n", moments.n, settings)
    sums = sums_of_moments(moments)
    numbers = _numbers_of_fourier([sums], [[]], statistic)
    settings |= {"sigma_x": maps.sigma_x, "sigma_y": maps.sigma_y}
    return _readings(numbers, 0, moments.n, settings)


def _check(
    x: Tensor,
    y: Tensor,
    bandwidths: Sequence[tuple[float, float]] | None,
    seeds: Sequence[int],
    method: str,
    statistic: str,
) -> None:
    if x.ndim != 3 or y.ndim != 3 or x.shape[:2] != y.shape[:2] or len(seeds) != len(x):
        raise ValueError(
            f"x, y, seeds: expected (t, n, dx), (t, n, dy), t; "
            f"got {tuple(x.shape)}, {tuple(y.shape)}, {len(seeds)}"
        )
    if method not in ("exact", "fourier") or statistic not in ("U", "V"):
        raise ValueError(
            f"method, statistic: expected 'exact' or 'fourier', 'U' or 'V', "
            f"got {method!r}, {statistic!r}"
        )
    check_widths(bandwidths, len(x))


def check_widths(bandwidths: Sequence[tuple[float, float]] | None, items: int) -> None:
    """Raise ValueError unless there is a pair of positive kernel widths for every item, or None."""
    if bandwidths is None:
        return
    flat = [sigma for pair in bandwidths for sigma in pair]
    if len(bandwidths) != items or not all(math.isfinite(s) and s > 0 for s in flat):
        raise ValueError(
            f"bandwidths: expected {items} pairs of positive numbers, got {list(bandwidths)}"
        )


def _widths(
    x: Tensor, y: Tensor, bandwidths: Sequence[tuple[float, float]] | None, bad: list[bool]
) -> tuple[Tensor, Tensor, list[str]]:
    """Return kernel widths ``(t,)`` of both sides, and why an item is undefined."""
    if bandwidths is None:
        sigma_x, sigma_y = median_distances(x), median_distances(y)
    else:
        given = torch.tensor(list(bandwidths), dtype=torch.float64, device=x.device)
        sigma_x, sigma_y = given.view(-1, 2).unbind(1)
    zero = ((sigma_x <= 0) | (sigma_y <= 0)).tolist()
    flags = zip(bad, constant_items(x), constant_items(y), zero, strict=True)
    reasons = [
        "nan" if nan else "constant" if cx or cy else "duplicates" if none else ""
        for nan, cx, cy, none in flags
    ]
    sigma_x, sigma_y = (torch.where(one > 0, one, 1.0) for one in (sigma_x, sigma_y))
    return sigma_x, sigma_y, reasons


def _exact(
    x: Tensor, y: Tensor, sigma_x: Tensor, sigma_y: Tensor, orders: Tensor, statistic: str
) -> _Numbers:
    runs, shuffled = gram_sums(x, y, sigma_x, sigma_y, orders)
    pair = runs.pair()
    values = pair.information(statistic)
    own_x, own_y = (side.information(statistic) for side in runs.own())
    own = _root(own_x * own_y)
    return _Numbers(
        values[:, 0].tolist(),
        own[:, 0].tolist(),
        jackknife_error(values).tolist(),
        jackknife_error(values / own).tolist(),
        shuffled.information(statistic).tolist(),
        _is_sparse(pair)[:, 0].tolist(),
    )


def _fourier(
    x: Tensor,
    y: Tensor,
    sigma_x: Tensor,
    sigma_y: Tensor,
    orders: Tensor,
    statistic: str,
    features: int,
) -> _Numbers:
    sums, nulls = [], []
    widths = zip(sigma_x.tolist(), sigma_y.tolist(), strict=True)
    for i, (sx, sy) in enumerate(widths):
        maps = FourierFeatures(x.shape[-1], y.shape[-1], sx, sy, features)
        found, shuffled = sums_of_rows(x[i], y[i], maps, orders[i])
        sums.append(found)
        nulls.append(shuffled.information(statistic).tolist())
    return _numbers_of_fourier(sums, nulls, statistic)


def _numbers_of_fourier(
    sums: list[list[PairSums]], nulls: list[list[float]], statistic: str
) -> _Numbers:
    values = [[one.information(statistic) for one in item] for item in sums]
    return _Numbers(
        [float(item[0]) for item in values],
        [float(_root(item[1] * item[2])) for item in values],
        None,
        None,
        nulls,
        [bool(_is_sparse(item[0])) for item in sums],
    )


def _root(product: Tensor) -> Tensor:
    """Return the root, NaN where the product of own informations is not positive."""
    return torch.where(product > 0, product, torch.nan).sqrt()


def _is_sparse(sums: PairSums) -> Tensor:
    return torch.minimum(sums.left, sums.right) < sums.n


def _readings(numbers: _Numbers, i: int, n: int, parameters: Parameters) -> CauchySchwarz:
    value, own = numbers.pair[i], numbers.own[i]
    if not math.isfinite(value):
        return _missing("bandwidth", n, parameters)
    errors = [
        None if one is None or not math.isfinite(one[i]) else one[i]
        for one in (numbers.errors, numbers.ratio_errors)
    ]
    null = numbers.nulls[i]
    is_sparse = numbers.sparse[i]
    if not math.isfinite(own):
        bits = _reading(BITS, value, null, errors[0], None, is_sparse, n, parameters)
        return CauchySchwarz(bits, _missing("constant", n, parameters).ratio)
    return CauchySchwarz(
        _reading(BITS, value, null, errors[0], own, is_sparse, n, parameters),
        _reading(
            RATIO, value / own, [v / own for v in null], errors[1], 1.0, is_sparse, n, parameters
        ),
    )


def _reading(
    name: str,
    value: float,
    null: list[float],
    error: float | None,
    ceiling: float | None,
    is_sparse: bool,
    n: int,
    parameters: Parameters,
) -> Estimate:
    scale = 1.0 / math.log(2.0) if name == BITS else 1.0
    mean, spread = null_of([v * scale for v in null])
    half = None if error is None else 1.96 * error * scale
    return Estimate(
        value=value * scale,
        unit=UNITS[name],
        n=n,
        estimator=name,
        version=VERSION,
        null_mean=mean,
        null_sd=spread,
        ceiling=ceiling if ceiling is None or name == RATIO else ceiling * scale,
        saturated=is_sparse,
        band=None if half is None else (value * scale - half, value * scale + half),
        parameters=parameters,
    )


def _missing(reason: str, n: int, parameters: Parameters) -> CauchySchwarz:
    bits, ratio = (
        Estimate.missing(
            reason, unit=UNITS[name], n=n, estimator=name, version=VERSION, parameters=parameters
        )
        for name in (BITS, RATIO)
    )
    return CauchySchwarz(bits, ratio)
