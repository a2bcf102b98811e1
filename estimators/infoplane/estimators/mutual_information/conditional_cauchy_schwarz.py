"""Cauchy-Schwarz divergence of two conditional densities, p(y1|x) and p(y2|x), on the same inputs.

After Yu et al., "Cauchy-Schwarz Divergence Information Bottleneck for Regression" (ICLR 2024): how
far predictions are from targets as distributions given the input.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.blocks import blocks
from infoplane.estimators.mutual_information.cauchy_schwarz import MIN_ROWS, check_widths
from infoplane.estimators.mutual_information.gram_sums import (
    RUNS,
    jackknife_error,
    median_distances,
    members,
    run_sums,
)
from infoplane.estimators.mutual_information.verdicts import (
    constant_items,
    nonfinite_items,
    null_of,
)

ESTIMATOR = "conditional_cs_divergence"
VERSION = 1
Parameters = dict[str, float | int | str]


def conditional_cs_divergence(
    x: Tensor,
    y1: Tensor,
    y2: Tensor,
    *,
    bandwidths: Sequence[tuple[float, float]] | None,
    seeds: Sequence[int],
    permutations: int = 1,
) -> list[Estimate]:
    """Return the conditional Cauchy-Schwarz divergence in nats of every item.

    ln A(1,1) + ln A(2,2) - 2 ln A(2,1) with A(a,b) = sum_j sum_i K_ji exp(-|ya_j - yb_i|^2 /
    2 sigma_y^2) / (sum_i K_ji)^2 and K the Gaussian Gram matrix of the inputs, rows with
    themselves included. 0 for y1 = y2. For inputs far apart and a shift of delta it is
    delta^2 / sigma_y^2 exactly. It may be slightly negative.

    Null: y1 and y2 exchanged in a random half of the rows, which changes nothing when both
    follow the same conditional density. Ceiling: none. Band: value +- 1.96 standard errors by
    leaving out each of 16 runs of consecutive rows.

    Undefined: ``"n"`` below 32 rows, ``"nan"``, ``"constant"`` when neither y1 nor y2 varies and
    no width is given, ``"duplicates"`` when a median distance is 0, ``"bandwidth"`` when no y1 is
    near a y2.

    Args:
        x: Inputs, shape ``(t, n, dx)``.
        y1: Targets, ``(t, n, dy)``.
        y2: Predictions, ``(t, n, dy)``.
        bandwidths: Kernel widths (sigma of x, of y) per item; None for the median distance of x,
            and of y1 and y2 taken together.
        seeds: One per item, for the exchanges.
        permutations: Draws of the null; 0 for none.

    Returns:
        ``t`` estimates. Cost O(t (1 + permutations) n^2 (dx + 3 dy)), in blocks, float64.

    Raises:
        ValueError: If shapes, or the number of seeds or bandwidths, do not fit.
    """
    _check(x, y1, y2, bandwidths, seeds)
    t, n, dx = x.shape
    settings: Parameters = {
        "dx": dx,
        "dy": y1.shape[-1],
        "bandwidth": "median" if bandwidths is None else "given",
    }
    if n < MIN_ROWS or t == 0:
        return [_missing("n", n, settings)] * t
    bad = nonfinite_items(x, y1, y2)
    x, y1, y2 = (torch.where(one.isfinite(), one, 0.0).to(torch.float64) for one in (x, y1, y2))
    widths, reasons = _widths(x, y1, y2, bandwidths, bad)
    left, first, second = (
        one / width.view(-1, 1, 1)
        for one, width in ((x, widths[:, 0]), (y1, widths[:, 1]), (y2, widths[:, 1]))
    )
    values = _divergences(left, first, second)
    error = jackknife_error(values).tolist()
    nulls = []
    for swap in _exchanges(seeds, n, permutations, x.device):
        mixed = torch.where(swap, second, first), torch.where(swap, first, second)
        nulls.append(_divergences(left, *mixed)[:, 0])
    null = torch.stack(nulls, 1).tolist() if nulls else [[]] * t
    return [
        _missing(reasons[i] or "bandwidth", n, settings)
        if reasons[i] or not bool(values[i, 0].isfinite())
        else _estimate(float(values[i, 0]), error[i], null[i], widths[i].tolist(), n, settings)
        for i in range(t)
    ]


def _divergences(x: Tensor, y1: Tensor, y2: Tensor) -> Tensor:
    """Return the divergence of the whole, then without each run: ``(t, 1 + RUNS)``."""
    t, n, _ = x.shape
    sums = x.new_zeros(4, t, n, RUNS)
    for items, rows in blocks(t, n, 4, x.device):
        kernel = _gram(x, x, items, rows)
        sums[0, items, rows] = run_sums(kernel)
        for j, (a, b) in enumerate(((y1, y1), (y2, y2), (y2, y1)), 1):
            sums[j, items, rows] = run_sums(kernel * _gram(a, b, items, rows))
    outside = 1.0 - members(n, x.device)
    whole = sums.sum(-1, keepdim=True)
    kept = torch.cat([whole, whole - sums], -1)
    seen = torch.cat([torch.ones_like(outside[:, :1]), outside], 1)
    # A row's mass includes its own 1, except in a run that is left out, where nothing is used.
    mass = torch.where(seen > 0, kept[0], 1.0)
    terms = (kept[1:] / mass.square() * seen).sum(-2)
    log = torch.where(terms > 0, terms, torch.nan).log()
    return log[0] + log[1] - 2 * log[2]


def _gram(a: Tensor, b: Tensor, items: slice, rows: slice) -> Tensor:
    """Return exp(-|a_j - b_i|^2 / 2) of some rows of ``a`` with all rows of ``b``."""
    left, right = a[items, rows], b[items]
    # Differences, not inner products: a target and its prediction may be close and far out.
    squared = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist").square_()
    return squared.mul_(-0.5).exp_()


def _exchanges(
    seeds: Sequence[int], n: int, permutations: int, device: torch.device
) -> list[Tensor]:
    draws = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed % 2**63)
        draws.append(torch.rand(permutations, n, generator=generator) < 0.5)
    return list(torch.stack(draws, 1).unsqueeze(-1).to(device))


def _check(
    x: Tensor,
    y1: Tensor,
    y2: Tensor,
    bandwidths: Sequence[tuple[float, float]] | None,
    seeds: Sequence[int],
) -> None:
    fits = x.ndim == 3 and y1.ndim == 3 and y1.shape == y2.shape and x.shape[:2] == y1.shape[:2]
    if not fits or len(seeds) != len(x):
        raise ValueError(
            f"x, y1, y2, seeds: expected (t, n, dx), (t, n, dy), (t, n, dy), t; "
            f"got {tuple(x.shape)}, {tuple(y1.shape)}, {tuple(y2.shape)}, {len(seeds)}"
        )
    check_widths(bandwidths, len(x))


def _widths(
    x: Tensor,
    y1: Tensor,
    y2: Tensor,
    bandwidths: Sequence[tuple[float, float]] | None,
    bad: list[bool],
) -> tuple[Tensor, list[str]]:
    """Return kernel widths ``(t, 2)`` and why an item is undefined."""
    if bandwidths is not None:
        given = torch.tensor(list(bandwidths), dtype=torch.float64, device=x.device)
        return given.view(-1, 2), ["nan" if nan else "" for nan in bad]
    widths = torch.stack([median_distances(x), median_distances(y1, y2)], 1)
    zero = (widths <= 0).any(1).tolist()
    flat = zip(constant_items(x), constant_items(torch.cat([y1, y2], 1)), strict=True)
    reasons = [
        "nan" if nan else "constant" if any(sides) else "duplicates" if none else ""
        for nan, sides, none in zip(bad, flat, zero, strict=True)
    ]
    return torch.where(widths > 0, widths, 1.0), reasons


def _estimate(
    value: float,
    error: float,
    null: list[float],
    widths: list[float],
    n: int,
    settings: Parameters,
) -> Estimate:
    mean, spread = null_of(null)
    has_error = error == error
    return Estimate(
        value=value,
        unit="nats",
        n=n,
        estimator=ESTIMATOR,
        version=VERSION,
        null_mean=mean,
        null_sd=spread,
        band=(value - 1.96 * error, value + 1.96 * error) if has_error else None,
        parameters={**settings, "sigma_x": widths[0], "sigma_y": widths[1]},
    )


def _missing(reason: str, n: int, settings: Parameters) -> Estimate:
    return Estimate.missing(
        reason, unit="nats", n=n, estimator=ESTIMATOR, version=VERSION, parameters=settings
    )
