"""Bounds of the information that a noisy copy of a row has about it.

Rows are a mixture of n Gaussians of variance s around them. Kolchinsky and Tracey ("Estimating Mixture Entropy with
Pairwise Distances", Entropy 2017) bound its entropy by pairwise distances D, and with it I(X; X + noise):

    upper = - mean_i ln mean_j exp(-D_ij / 2s),      lower = the same with 4s in the place of s.

"Adaptive Estimators Show Information Compression in Deep Neural Networks" (Chelombiev et al., ICLR 2019) scales the
noise to the activity of the layer. Here `choose_noise` does, once; later windows are given the variance that it found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.verdicts import (
    SATURATION,
    constant_items,
    nonfinite_items,
)

UPPER = "kde_mi_upper"
LOWER = "kde_mi_lower"
VERSION = 1
SHARE = 0.45
"""Share of ln n at which `choose_noise` puts the upper bound: neither all rows alike nor all apart."""
CHOICE_ROWS = 256
BLOCK_ELEMENTS = 1 << 22
"""Distances are taken in blocks of about this many elements (32 MB)."""


@dataclass(frozen=True, slots=True)
class KernelBounds:
    """The two bounds of one item, in nats."""

    upper: Estimate
    lower: Estimate


def kde_bounds(
    x: Tensor, *, variances: Sequence[float] | None, seeds: Sequence[int]
) -> list[KernelBounds]:
    """Return bounds of I(X; X + noise) in nats for every item.

    Rows stand for the distribution, so neither bound passes ln n: they mean something while the truth is below
    about half of it. Null: none. Ceiling: ln n; saturated above 0.8 of it. Band: value +- 1.96 standard errors of
    the rows' terms, for independent rows.

    Undefined: ``"n"`` below 2 rows, ``"nan"``, ``"constant"``, ``"bandwidth"`` for a variance that is not above 0.

    Args:
        x: Shape ``(t, n, d)``.
        variances: Of the noise, one per item; None: `choose_noise` of these rows.
        seeds: One per item; nothing is random here, they keep the shape of a call.

    Returns:
        ``t`` pairs. Cost O(t n^2 d), float64, memory in blocks.

    Raises:
        ValueError: If the shape or the number of variances or seeds does not fit.
    """
    given = len(variances) if variances is not None else x.shape[0]
    if x.ndim != 3 or given != x.shape[0] or len(seeds) != x.shape[0]:
        raise ValueError(
            f"x, variances, seeds: expected (t, n, d), t, t; got {tuple(x.shape)}, {given}, {len(seeds)}"
        )
    t, n, d = x.shape
    if n < 2 or d == 0:
        return [_missing("n", n, d, 0.0) for _ in range(t)]
    noise = choose_noise(x) if variances is None else torch.tensor(variances, dtype=torch.float64)
    noise = noise.to(x.device, torch.float64)
    usable = (noise > 0) & noise.isfinite()
    flags = zip(nonfinite_items(x), constant_items(x), usable.tolist(), strict=True)
    reasons = [
        "nan" if nan else "constant" if flat else "" if good else "bandwidth"
        for nan, flat, good in flags
    ]
    safe = torch.where(usable, noise, 1.0)
    terms = [_terms(x, factor * safe).cpu() for factor in (1.0, 4.0)]
    return [
        _missing(reasons[i], n, d, float(noise[i]))
        if reasons[i]
        else KernelBounds(
            *(
                _estimate(name, side[i], d, float(noise[i]))
                for name, side in zip((UPPER, LOWER), terms, strict=True)
            )
        )
        for i in range(t)
    ]


def choose_noise(x: Tensor) -> Tensor:
    """Return the variance ``(t,)`` at which the upper bound of the first rows is 0.45 ln n; 0 where there is none.

    By bisection on at most 256 rows of ``x (t, n, d)``; float64. Cost O(t 256^2 (d + 40)).
    """
    t = x.shape[0]
    rows = torch.where(x.isfinite(), x, 0.0)[:, :CHOICE_ROWS].to(torch.float64)
    m = rows.shape[1]
    if m < 2 or rows.shape[2] == 0:
        return torch.zeros(t, dtype=torch.float64, device=x.device)
    squares = torch.cdist(rows, rows).square()
    scale = squares.mean((1, 2))
    target = SHARE * math.log(m)
    low, high = scale.clamp(min=1e-300).log() - 25.0, scale.clamp(min=1e-300).log() + 10.0
    for _ in range(40):
        middle = (low + high) / 2
        exponent = -squares / (2 * middle.exp())[:, None, None]
        value = (math.log(m) - exponent.logsumexp(-1)).mean(-1)
        is_above = value > target
        low, high = torch.where(is_above, middle, low), torch.where(is_above, high, middle)
    return torch.where(scale > 0, ((low + high) / 2).exp(), 0.0)


def _terms(x: Tensor, variance: Tensor) -> Tensor:
    """Return ``ln n - ln sum_j exp(-D_ij / 2 variance)`` of every row, ``(t, n)``."""
    t, n, _ = x.shape
    rows = torch.where(x.isfinite(), x, 0.0).to(torch.float64)
    # Distances do not change, and lose fewer digits around the mean.
    rows = (rows - rows.mean(1, keepdim=True)) / (2 * variance).sqrt()[:, None, None]
    norms = rows.square().sum(-1)
    terms = torch.empty(t, n, dtype=torch.float64, device=x.device)
    step = max(1, BLOCK_ELEMENTS // (t * n))
    for start in range(0, n, step):
        part = slice(start, start + step)
        exponent = 2 * rows[:, part] @ rows.mT - norms[:, part, None] - norms[:, None, :]
        exponent.clamp_(max=0.0)
        # A row's distance from itself is 0, whatever rounding says.
        exponent.diagonal(start, dim1=1, dim2=2).zero_()
        terms[:, part] = math.log(n) - exponent.logsumexp(-1)
    return terms


def _estimate(name: str, terms: Tensor, d: int, variance: float) -> Estimate:
    n = terms.numel()
    value, error = float(terms.mean()), float(terms.std()) / math.sqrt(n)
    ceiling = math.log(n)
    return Estimate(
        value, "nats", n, name, VERSION, ceiling=ceiling, saturated=value > SATURATION * ceiling,
        band=(value - 1.96 * error, value + 1.96 * error), parameters={"d": d, "variance": variance},
    )  # fmt: skip


def _missing(reason: str, n: int, d: int, variance: float) -> KernelBounds:
    return KernelBounds(
        *(
            Estimate.missing(
                reason, unit="nats", n=n, estimator=name, version=VERSION,
                parameters={"d": d, "variance": variance if math.isfinite(variance) else "nan"},
            )
            for name in (UPPER, LOWER)
        )
    )  # fmt: skip
