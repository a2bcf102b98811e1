"""Binned entropy and information of single columns, with bins that adapt to the values.

EBAB of "Adaptive Estimators Show Information Compression in Deep Neural Networks" (Chelombiev,
Houghton and O'Donnell, ICLR 2019): cuts are at equal counts of the *distinct* values, and where
the activation has a lower bound, that value is a bin of its own. Here every column of a window has
its own cuts, so that no strictly monotone map of a column changes anything. Where values repeat,
bins do not hold equal numbers of rows.

Binning several columns at once is of no use: the entropy is at its ceiling log2 n from about three
columns on (`joint_binned_entropy` shows it).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.class_groups import item_runs, label_orders
from infoplane.estimators.mutual_information.labels import label_entropy
from infoplane.estimators.mutual_information.verdicts import (
    SATURATION,
    constant_items,
    nonfinite_items,
    null_of,
)

ENTROPY = "binned_entropy"
INFORMATION = "binned_mi"
JOINT = "joint_binned_entropy"
VERSION = 1
TABLE_ELEMENTS = 1 << 20
"""Cells of the tables of bins by classes that are held together (8 MB each)."""
LARGEST_CODE = 1 << 62


def binned_entropy(x: Tensor, *, bins: int = 30, lower: float | None = None) -> list[Estimate]:
    """Return the mean over columns of the entropy of their bins, in bits.

    Plug-in: log2(bins) for values that never repeat when n is a multiple of ``bins``, whatever
    their density. So it tells of repeated values (quantisation, zeros of ReLU), not of shape.

    Null: none. Ceiling: log2(bins), or of one bin more with ``lower``; reaching it is normal, so
    ``saturated`` stays False. Band: analytic, value +- 1.96 times the columns' mean standard
    error, as if all columns erred together and cuts were fixed.

    Undefined: ``"n"`` for fewer rows than bins, ``"nan"``, ``"constant"`` when no column varies,
    ``"d"`` for no column. A constant column among others counts 0.

    Args:
        x: Shape ``(t, n, d)``.
        bins: Of the values above ``lower``.
        lower: Smallest value of the activation function, e.g. 0 for ReLU; None: it has none.

    Returns:
        ``t`` estimates. Cost O(t d n log n).

    Raises:
        ValueError: If the shape does not fit or bins < 1.
    """
    t, n, d = _check(x, bins)
    reasons = _reasons(x, bins)
    if t == 0 or n < bins or d == 0:
        return [_missing(reason, ENTROPY, n, d, bins, lower) for reason in reasons]
    found = []
    for part, _ in _columns(x, bins + 1):
        p = _counts(_bins_of(part, bins, lower), bins + 1) / n
        log = torch.where(p > 0, -p.clamp(min=1e-300).log2(), 0.0)
        entropy = (p * log).sum(-1)
        variance = ((p * log.square()).sum(-1) - entropy.square()).clamp(min=0.0)
        found.append(torch.stack([entropy, (variance / n).sqrt()], -1))
    numbers = torch.cat(found).view(t, d, 2).mean(1).tolist()
    return [
        _missing(reason, ENTROPY, n, d, bins, lower)
        if reason
        else Estimate(
            value=value,
            unit="bits",
            n=n,
            estimator=ENTROPY,
            version=VERSION,
            ceiling=math.log2(bins + (lower is not None)),
            band=(value - 1.96 * error, value + 1.96 * error),
            parameters=_parameters(d, bins, lower),
        )
        for reason, (value, error) in zip(reasons, numbers, strict=True)
    ]


def binned_mi(
    x: Tensor,
    labels: Tensor,
    *,
    seeds: Sequence[int],
    bins: int = 30,
    lower: float | None = None,
    permutations: int = 1,
) -> list[Estimate]:
    """Return the mean over columns of I(bin; label), in bits.

    Miller-Madow corrected: + (occupied bins + classes - occupied cells - 1) / 2n nats, so that
    independence gives 0 on average and single values below 0; the uncorrected value is ``raw`` in
    ``parameters``. Where cells hold fewer than about five rows the correction is too small:
    compare with the null, or coarsen the labels.

    Null: labels permuted. Ceiling: H(label), or log2 of the number of bins when less; saturated
    above 0.8 of it. Band: as in `binned_entropy`.

    Undefined: as in `binned_entropy`, and ``"classes"`` for one class.

    Args:
        x: Shape ``(t, n, d)``.
        labels: Shape ``(t, n)``, integers.
        seeds: One per item, for the null.
        bins: As in `binned_entropy`.
        lower: As in `binned_entropy`.
        permutations: Draws of the null, 0 for none.

    Returns:
        ``t`` estimates. Cost O(t d (n log n + (1 + permutations) (n + bins classes))); tables in
        blocks.

    Raises:
        ValueError: If shapes or the number of seeds do not fit, or bins < 1.
    """
    t, n, d = _check(x, bins)
    if labels.shape != (t, n) or len(seeds) != t:
        raise ValueError(
            f"labels, seeds: expected {(t, n)} and {t}, got {tuple(labels.shape)}, {len(seeds)}"
        )
    reasons = _reasons(x, bins)
    if t == 0 or n < bins or d == 0:
        return [_missing(reason, INFORMATION, n, d, bins, lower) for reason in reasons]
    orders = label_orders(labels, seeds, permutations)
    classes = (orders[:, 0].amax(-1) + 1).tolist()
    size, most = bins + 1, max(classes)
    orders = orders.to(x.device)
    found = []
    for part, items in _columns(x, size * most):
        where = _bins_of(part, bins, lower)
        drawn = [_information(where, orders[items, j], size, most) for j in range(1 + permutations)]
        found.append(torch.stack([*drawn[0], *(one[0] for one in drawn[1:])], -1))
    numbers = torch.cat(found).view(t, d, -1).mean(1).tolist()
    estimates = []
    for i, (value, raw, error, *null) in enumerate(numbers):
        reason = reasons[i] or ("classes" if classes[i] < 2 else "")
        if reason:
            estimates.append(_missing(reason, INFORMATION, n, d, bins, lower))
            continue
        mean, deviation = null_of(null)
        of_label = label_entropy(labels[i].cpu().numpy()) / math.log(2)
        ceiling = min(of_label, math.log2(bins + (lower is not None)))
        estimates.append(
            Estimate(
                value=value,
                unit="bits",
                n=n,
                estimator=INFORMATION,
                version=VERSION,
                null_mean=mean,
                null_sd=deviation,
                ceiling=ceiling,
                saturated=value > SATURATION * ceiling,
                band=(value - 1.96 * error, value + 1.96 * error),
                parameters={**_parameters(d, bins, lower), "raw": raw},
            )
        )
    return estimates


def joint_binned_entropy(
    x: Tensor, *, bins: int = 30, lower: float | None = None
) -> list[Estimate]:
    """Return the entropy of the rows' tuples of bins, in bits: as published, for comparison.

    Ceiling: log2 n; saturated above 0.8 of it, as it is with three or more columns of continuous
    values at any usual n. Null and band: none. Undefined, arguments and errors as in
    `binned_entropy`. Cost O(t d n log n); exact, without hashing.
    """
    t, n, d = _check(x, bins)
    reasons = _reasons(x, bins)
    if t == 0 or n < bins or d == 0:
        return [_missing(reason, JOINT, n, d, bins, lower) for reason in reasons]
    found = []
    for items in item_runs(x):
        columns = x[items].mT.reshape(-1, n)
        found.append(_tuples(_bins_of(columns, bins, lower).view(-1, d, n), bins + 1))
    p = _counts(torch.cat(found), n) / n
    values = -(p * p.clamp(min=1e-300).log2()).sum(-1)
    ceiling = math.log2(n)
    return [
        _missing(reason, JOINT, n, d, bins, lower)
        if reason
        else Estimate(
            value=value,
            unit="bits",
            n=n,
            estimator=JOINT,
            version=VERSION,
            ceiling=ceiling,
            saturated=value > SATURATION * ceiling,
            parameters=_parameters(d, bins, lower),
        )
        for reason, value in zip(reasons, values.tolist(), strict=True)
    ]


def _columns(x: Tensor, cells: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield columns of ``x (t, n, d)`` as ``(c, n)``, item by item, and the items they are of.

    So many that neither they nor tables of ``cells`` per column pass `TABLE_ELEMENTS`.
    """
    t, n, d = x.shape
    step = max(1, TABLE_ELEMENTS // max(n, cells))
    for start in range(0, t * d, step):
        index = torch.arange(start, min(t * d, start + step), device=x.device)
        items = index // d
        yield x.mT[items, index % d], items


def _bins_of(columns: Tensor, bins: int, lower: float | None) -> Tensor:
    """Return the bin of every value of ``columns (c, n)``, int64: 0 at or below ``lower``."""
    values, order = torch.where(columns.isfinite(), columns, 0.0).sort(dim=-1)
    is_new = torch.ones_like(values, dtype=torch.bool)
    is_new[:, 1:] = values[:, 1:] != values[:, :-1]
    if lower is not None:
        is_low = values <= lower
        is_new &= ~is_low
    # A value's place among the distinct ones, from 1; those at or below the bound have 0.
    place = is_new.cumsum(-1)
    found = (place - 1) * bins // place[:, -1:].clamp(min=1) + 1
    if lower is not None:
        found.masked_fill_(is_low, 0)
    return torch.empty_like(found).scatter_(-1, order, found)


def _tuples(where: Tensor, size: int) -> Tensor:
    """Return numbers 0 .. n - 1, equal for equal tuples of ``where (t, d, n)``: ``(t, n)``."""
    t, d, n = where.shape
    numbers = torch.zeros(t, n, dtype=torch.int64, device=where.device)
    codes = 1
    for j in range(d):
        if codes * size >= LARGEST_CODE // n:
            numbers, codes = _renumbered(numbers), 1
        numbers, codes = numbers * size + where[:, j], codes * size
    return _renumbered(numbers)


def _renumbered(codes: Tensor) -> Tensor:
    """Return the ranks of ``codes (t, n)`` among the distinct ones of their row."""
    values, order = codes.sort(dim=-1)
    ranks = torch.zeros_like(codes)
    ranks[:, 1:] = (values[:, 1:] != values[:, :-1]).cumsum(-1)
    return torch.empty_like(codes).scatter_(-1, order, ranks)


def _counts(where: Tensor, size: int) -> Tensor:
    """Return how many of ``where (c, n)`` have each of ``size`` values, float64 ``(c, size)``."""
    c = where.shape[0]
    offset = torch.arange(c, device=where.device).unsqueeze(-1) * size
    counts = torch.bincount((where + offset).flatten(), minlength=c * size)
    return counts.view(c, size).to(torch.float64)


def _information(
    where: Tensor, labels: Tensor, size: int, classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return corrected value, raw value and standard error in bits of every column, ``(c,)``."""
    n = where.shape[-1]
    table = _counts(where * classes + labels, size * classes).view(-1, size, classes)
    rows, columns = table.sum(-1, keepdim=True), table.sum(-2, keepdim=True)
    ratio = table * n / (rows * columns).clamp(min=1.0)
    log = torch.where(table > 0, ratio.clamp(min=1e-300).log2(), 0.0)
    raw = (table * log).sum((-2, -1)) / n
    variance = ((table * log.square()).sum((-2, -1)) / n - raw.square()).clamp(min=0.0)
    occupied = [(part > 0).sum((-2, -1)) for part in (rows, columns, table)]
    excess = occupied[0] + occupied[1] - occupied[2] - 1
    return raw + excess / (2.0 * n * math.log(2)), raw, (variance / n).sqrt()


def _check(x: Tensor, bins: int) -> tuple[int, int, int]:
    if x.ndim != 3 or bins < 1:
        raise ValueError(f"x, bins: expected (t, n, d) and 1 or more, got {tuple(x.shape)}, {bins}")
    t, n, d = x.shape
    return t, n, d


def _reasons(x: Tensor, bins: int) -> list[str]:
    t, n, d = x.shape
    if n < bins or d == 0:
        return ["n" if n < bins else "d"] * t
    flags = zip(nonfinite_items(x), constant_items(x), strict=True)
    return ["nan" if nan else "constant" if flat else "" for nan, flat in flags]


def _parameters(d: int, bins: int, lower: float | None) -> dict[str, float | int | str]:
    return {"d": d, "bins": bins, "lower": "none" if lower is None else lower}


def _missing(
    reason: str, estimator: str, n: int, d: int, bins: int, lower: float | None
) -> Estimate:
    return Estimate.missing(
        reason,
        unit="bits",
        n=n,
        estimator=estimator,
        version=VERSION,
        parameters=_parameters(d, bins, lower),
    )
