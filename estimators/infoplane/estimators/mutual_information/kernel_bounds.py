"""Bounds of the information that a noisy copy of a row has about the row, or about its label.

Rows are a mixture of n Gaussians of variance s around them. Kolchinsky and Tracey ("Estimating
Mixture Entropy with Pairwise Distances", Entropy 2017) bound its entropy by pairwise distances D,
and with it I(X; X + noise):

    upper = -mean_i ln mean_j exp(-D_ij / 2s),      lower = the same with 4s in the place of s.

"Adaptive Estimators Show Information Compression in Deep Neural Networks" (Chelombiev et al.,
ICLR 2019) scales the noise to the activity of the layer; here `choose_noise` does, once, and later
windows are given the variance that it found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.class_groups import (
    class_groups,
    class_sizes,
    item_runs,
    kernel_terms,
    label_orders,
)
from infoplane.estimators.mutual_information.verdicts import (
    SATURATION,
    constant_items,
    nonfinite_items,
    null_of,
)

UPPER, LOWER = "kde_mi_upper", "kde_mi_lower"
LABEL_UPPER, LABEL_LOWER = "kde_label_mi_upper", "kde_label_mi_lower"
VERSION = 1
SHARE = 0.45
"""Share of ln n at which `choose_noise` puts the upper bound: not all rows alike, not all apart."""
REACH = 0.9
"""Largest share of what the bound is without noise: less than ln n where rows repeat."""
CHOICE_ROWS = 256
FAR = 1e12
"""Largest squared distance from the mean in units of s: beyond, distances lose their digits."""


@dataclass(frozen=True, slots=True)
class KernelBounds:
    """The two bounds of one item, in nats."""

    upper: Estimate
    lower: Estimate


@dataclass(frozen=True, slots=True)
class NoisyRows:
    """Rows and the noise that is put on them.

    Attributes:
        rows: About their mean, in units of the noise's standard deviation; 0 for items without a
            value; shape ``(t, n, d)``, float64.
        variance: Of the noise, shape ``(t,)``, float64.
        reasons: Per item why there is no value, or ``""``.
    """

    rows: Tensor
    variance: list[float]
    reasons: list[str]


def kde_bounds(
    x: Tensor, *, variances: Sequence[float] | None, seeds: Sequence[int]
) -> list[KernelBounds]:
    """Return bounds of I(X; X + noise) in nats for every item.

    Rows stand for the distribution, so neither bound passes ln n: they mean something while the
    truth is below about half of it. Null: none. Ceiling: ln n; saturated above 0.8 of it.
    Band: value +- 1.96 standard errors of the rows' terms, analytic, for independent rows.

    Undefined: ``"n"`` below 2 rows or without columns, ``"nan"``, ``"constant"``,
    ``"bandwidth"`` for a variance that is not above 0, or so small that rows are 1e6 standard
    deviations of it from their mean.

    Args:
        x: Shape ``(t, n, d)``.
        variances: Of the noise, one per item; None: `choose_noise` of these rows.
        seeds: One per item; nothing is random here, they keep the shape of a call.

    Returns:
        ``t`` pairs. Cost O(t n^2 d), float64; memory in blocks.

    Raises:
        ValueError: If the shape or the number of variances or seeds does not fit.
    """
    t, n, d = check_rows(x, variances, seeds)
    if t == 0 or n < 2 or d == 0:
        return [_missing((UPPER, LOWER), "n", n, d, None) for _ in range(t)]
    noisy = noisy_rows(x, variances)
    labels = torch.zeros(t, 1, n, dtype=torch.int64, device=x.device)
    terms = _terms(noisy.rows, labels)[:, :, 0].cpu()
    return [
        _missing((UPPER, LOWER), reason, n, d, noisy.variance[i])
        if reason
        else KernelBounds(
            *(
                _estimate(name, terms[side, i], math.log(n), d, noisy.variance[i])
                for side, name in enumerate((UPPER, LOWER))
            )
        )
        for i, reason in enumerate(noisy.reasons)
    ]


def kde_label_bounds(
    x: Tensor,
    labels: Tensor,
    *,
    variances: Sequence[float] | None,
    seeds: Sequence[int],
    permutations: int = 1,
) -> list[KernelBounds]:
    """Return bounds of I(X + noise; label) in nats for every item.

    I = H - sum_c p_c H_c, entropies of X + noise: the upper bound takes H at most and H_c at
    least, the lower bound the other way round. Both are kept within 0 .. H(label).
    ``same_side`` in ``parameters`` is the difference of two bounds of one kind, which papers
    plot: it lies between the two, and no bound is claimed for it.

    Null: labels permuted. Ceiling: the plug-in H(label), which is also what noise too small to
    join any two rows gives, whatever the labels; saturated above 0.8 of it. Band: value +- 1.96
    standard errors of the rows' terms, analytic, before limits are applied.

    Undefined: as in `kde_bounds`, and ``"classes"`` for one class. A class of one row counts as
    known: H_c is the entropy of the noise.

    Args:
        x: Shape ``(t, n, d)``.
        labels: Shape ``(t, n)``, integers.
        variances: As in `kde_bounds`.
        seeds: One per item, for the null.
        permutations: Draws of the null, 0 for none.

    Returns:
        ``t`` pairs. Cost O(t n^2 d + t (1 + permutations) d sum of n_c^2).

    Raises:
        ValueError: If shapes or the number of variances or seeds do not fit.
    """
    t, n, d = check_rows(x, variances, seeds)
    names = (LABEL_UPPER, LABEL_LOWER)
    if labels.shape != (t, n):
        raise ValueError(f"labels: expected {(t, n)}, got {tuple(labels.shape)}")
    if t == 0 or n < 2 or d == 0:
        return [_missing(names, "n", n, d, None) for _ in range(t)]
    noisy = noisy_rows(x, variances)
    orders = label_orders(labels, seeds, permutations).to(x.device)
    whole = _terms(noisy.rows, torch.zeros_like(orders[:, :1])).cpu()
    inside = _terms(noisy.rows, orders).cpu()
    crossed, same = whole - inside.flip(0), (whole - inside)[:, :, 0].mean(-1)
    limits = (math.log(n) - class_sizes(orders)[:, 0].double().log().mean(-1)).tolist()
    answers = []
    for i, reason in enumerate(noisy.reasons):
        reason = reason or ("classes" if limits[i] <= 0 else "")
        if reason:
            answers.append(_missing(names, reason, n, d, noisy.variance[i]))
            continue
        upper, lower = (
            _label_estimate(
                name, crossed[side, i], limits[i], d, noisy.variance[i], float(same[side, i])
            )
            for side, name in enumerate(names)
        )
        answers.append(KernelBounds(upper, lower))
    return answers


def choose_noise(x: Tensor) -> Tensor:
    """Return the variance ``(t,)`` of the noise that suits the rows; 0 where there is none.

    It is where the upper bound of 256 rows, evenly spaced in ``x (t, n, d)``, is 0.45 ln n, or
    0.9 of what it is without noise when that is less: some rows alike, others apart. To be chosen
    at one window and frozen, as values at other variances are another series. float64, by
    bisection to 1 %. Cost O(t 256^2 (d + 13)).
    """
    found = [_chosen(x[items]) for items in item_runs(x)]
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64, device=x.device)


def _chosen(x: Tensor) -> Tensor:
    t, n, d = x.shape
    m = min(n, CHOICE_ROWS)
    if m < 2 or d == 0:
        return torch.zeros(t, dtype=torch.float64, device=x.device)
    rows = x[:, torch.arange(m, device=x.device) * n // m]
    rows = torch.where(rows.isfinite(), rows, 0.0).to(torch.float64)
    rows = rows - rows.mean(1, keepdim=True)
    norms = rows.square().sum(-1)
    squares = (norms.unsqueeze(-1) + norms.unsqueeze(-2) - 2.0 * rows @ rows.mT).clamp_(min=0.0)
    squares.diagonal(dim1=1, dim2=2).zero_()
    scale = squares.mean((1, 2))
    usable = (scale > 0) & scale.isfinite()
    squares = squares.masked_fill(~usable[:, None, None], 0.0)
    squares /= torch.where(usable, scale, 1.0)[:, None, None]
    low, high = torch.full_like(scale, -25.0), torch.full_like(scale, 10.0)
    target = (REACH * _upper_bound(squares, low)).clamp(max=SHARE * math.log(n))
    for _ in range(12):
        middle = (low + high) / 2
        is_above = _upper_bound(squares, middle) > target
        low, high = torch.where(is_above, middle, low), torch.where(is_above, high, middle)
    return torch.where(usable, ((low + high) / 2).exp() * scale, 0.0)


def _upper_bound(squares: Tensor, log_variance: Tensor) -> Tensor:
    """Return the upper bound ``(t,)`` of rows at squared distances ``squares (t, m, m)``."""
    # A row's own 1 keeps sums of exponentials above 0.
    sums = (squares * (-0.5 * (-log_variance).exp())[:, None, None]).exp_().sum(-1)
    return (math.log(squares.shape[-1]) - sums.log()).mean(-1)


def check_rows(
    x: Tensor, variances: Sequence[float] | None, seeds: Sequence[int]
) -> tuple[int, int, int]:
    """Return the shape of ``x (t, n, d)``.

    Raises:
        ValueError: If it is not one, or there is not one variance and one seed per item.
    """
    given = x.shape[0] if variances is None else len(variances)
    if x.ndim != 3 or given != x.shape[0] or len(seeds) != x.shape[0]:
        raise ValueError(
            f"x, variances, seeds: expected (t, n, d), t, t; "
            f"got {tuple(x.shape)}, {given}, {len(seeds)}"
        )
    t, n, d = x.shape
    return t, n, d


def noisy_rows(x: Tensor, variances: Sequence[float] | None) -> NoisyRows:
    """Return the rows of ``x (t, n, d)`` in units of the noise; None: that of `choose_noise`."""
    if variances is None:
        noise = choose_noise(x)
    else:
        noise = torch.tensor(list(variances), dtype=torch.float64, device=x.device)
    is_bad = ~((noise > 0) & noise.isfinite())
    rows = torch.where(x.isfinite(), x, 0.0).to(torch.float64)
    rows = (rows - rows.mean(1, keepdim=True)) / torch.where(is_bad, 1.0, noise).sqrt()[
        :, None, None
    ]
    # Also where squares overflow, or are not numbers.
    is_bad |= ~(rows.square().sum(-1).amax(-1) <= FAR)
    flags = zip(nonfinite_items(x), constant_items(x), is_bad.tolist(), strict=True)
    reasons = [
        "nan" if nan else "constant" if flat else "bandwidth" if bad else ""
        for nan, flat, bad in flags
    ]
    return NoisyRows(rows.masked_fill(is_bad[:, None, None], 0.0), noise.tolist(), reasons)


def _terms(rows: Tensor, labels: Tensor) -> Tensor:
    """Return ln m - ln sum_j exp(-D_ij / 2s) over the m rows of a class, and with 4s.

    Rows in units of the noise and labels ``(t, p, n)``; ``(2, t, p, n)``.
    """
    found = []
    for items in item_runs(rows):
        part = labels[items]
        sums = kernel_terms(
            0.5 * rows[items],
            class_groups(part),
            (part.shape[0], part.shape[1], part.shape[2]),
            noise=None,
            reduce=_both_sums,
            parts=2,
        )
        found.append(class_sizes(part).double().log() - sums)
    return torch.cat(found, 1)


def _both_sums(exponents: Tensor) -> Tensor:
    """Return ln of the sums of exp(4 a) and of exp(a)."""
    kernel = exponents.exp_()
    wide = kernel.sum(-1)
    return torch.stack([kernel.square_().square_().sum(-1), wide]).log_()


def _estimate(name: str, terms: Tensor, ceiling: float, d: int, variance: float) -> Estimate:
    n = terms.numel()
    value, error = float(terms.mean()), float(terms.std()) / math.sqrt(n)
    return Estimate(
        value=value,
        unit="nats",
        n=n,
        estimator=name,
        version=VERSION,
        ceiling=ceiling,
        saturated=value > SATURATION * ceiling,
        band=(value - 1.96 * error, value + 1.96 * error),
        parameters={"d": d, "variance": variance},
    )


def _label_estimate(
    name: str, terms: Tensor, ceiling: float, d: int, variance: float, same_side: float
) -> Estimate:
    """Return the estimate of ``terms (1 + permutations, n)``, the first of the real labels."""
    values = [min(max(value, 0.0), ceiling) for value in terms.mean(-1).tolist()]
    mean, deviation = null_of(values[1:])
    error = float(terms[0].std()) / math.sqrt(terms.shape[-1])
    centre = float(terms[0].mean())
    return Estimate(
        value=values[0],
        unit="nats",
        n=terms.shape[-1],
        estimator=name,
        version=VERSION,
        null_mean=mean,
        null_sd=deviation,
        ceiling=ceiling,
        saturated=values[0] > SATURATION * ceiling,
        band=(centre - 1.96 * error, centre + 1.96 * error),
        parameters={"d": d, "variance": variance, "same_side": same_side},
    )


def _missing(
    names: tuple[str, str], reason: str, n: int, d: int, variance: float | None
) -> KernelBounds:
    known = variance is not None and math.isfinite(variance)
    return KernelBounds(
        *(
            Estimate.missing(
                reason,
                unit="nats",
                n=n,
                estimator=name,
                version=VERSION,
                parameters={"d": d, "variance": variance if known and variance else "none"},
            )
            for name in names
        )
    )
