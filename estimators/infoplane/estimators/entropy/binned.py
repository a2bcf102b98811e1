"""Binned entropy and information of single columns, with bins that adapt to the values.

EBAB of "Adaptive Estimators Show Information Compression in Deep Neural Networks" (Chelombiev, Houghton and O'Donnell,
ICLR 2019): cuts are at equal counts of the *distinct* values of a window, so that no monotone map of a column
changes anything; where the activation has a lower bound, that value is a bin of its own. Binning several columns at
once is of no use: the entropy is at its ceiling log2 n from about four columns on (`joint_binned_entropy` shows it).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.labels import dense_labels, label_entropy
from infoplane.estimators.mutual_information.pairings import row_orders
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


def binned_entropy(x: Tensor, *, bins: int = 30, lower: float | None = None) -> list[Estimate]:
    """Return the mean over columns of the entropy of their bins, in bits.

    Plug-in: log2 of the number of bins for values that never repeat. Null: none. Ceiling: log2(bins), or one bin
    more with ``lower``; reaching it is normal, so ``saturated`` stays False. Band: value +- 1.96 times the columns'
    mean standard error, as if all columns erred together.

    Undefined: ``"n"`` for fewer rows than bins, ``"nan"``, ``"constant"`` when no column varies, ``"d"`` for no column.

    Args:
        x: Shape ``(t, n, d)``.
        bins: Of the values above ``lower``.
        lower: Smallest value of the activation function, e.g. 0 for ReLU; None: it has none.

    Returns:
        ``t`` estimates. Cost O(t d n log n).

    Raises:
        ValueError: If the shape does not fit or bins < 1.
    """
    _check(x, bins)
    t, n, d = x.shape
    ceiling = math.log2(bins + (lower is not None))
    reasons = _reasons(x, bins)
    if t == 0 or reasons[0] in ("n", "d"):
        return [_missing(reason, ENTROPY, n, d, bins, lower) for reason in reasons]
    counts = _counts(_bins_of(x, bins, lower), bins + 1)
    p = counts / n
    log = torch.where(p > 0, -p.clamp(min=1e-300).log2(), 0.0)
    entropy = (p * log).sum(-1)
    variance = ((p * log.square()).sum(-1) - entropy.square()).clamp(min=0.0)
    values, errors = entropy.mean(-1).tolist(), (variance / n).sqrt().mean(-1).tolist()
    return [
        _missing(reasons[i], ENTROPY, n, d, bins, lower)
        if reasons[i]
        else Estimate(
            values[i], "bits", n, ENTROPY, VERSION, ceiling=ceiling,
            band=(values[i] - 1.96 * errors[i], values[i] + 1.96 * errors[i]),
            parameters=_parameters(d, bins, lower),
        )
        for i in range(t)
    ]  # fmt: skip


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

    Miller-Madow corrected: + (occupied bins + classes - occupied cells - 1) / 2n nats; the uncorrected value is
    ``raw`` in ``parameters``. Where cells hold fewer than some five rows the correction is too small: compare with
    the null, labels permuted. Ceiling: H(label); saturated above 0.8 of it. Band: as in `binned_entropy`.

    Undefined: as in `binned_entropy`, and ``"classes"`` for one class.

    Args:
        x: Shape ``(t, n, d)``.
        labels: Shape ``(t, n)``, integers.
        seeds: One per item, for the null.
        bins: As in `binned_entropy`.
        lower: As in `binned_entropy`.
        permutations: Draws of the null, 0 for none.

    Returns:
        ``t`` estimates. Cost O(t d (n log n + (1 + permutations) n)); memory 8 t d bins classes bytes.

    Raises:
        ValueError: If shapes or the number of seeds do not fit, or bins < 1.
    """
    _check(x, bins)
    if labels.shape != x.shape[:2] or len(seeds) != x.shape[0]:
        raise ValueError(
            f"labels, seeds: expected (t, n) and t, got {tuple(labels.shape)} and {len(seeds)}"
        )
    t, n, d = x.shape
    reasons = _reasons(x, bins)
    if t == 0 or reasons[0] in ("n", "d"):
        return [_missing(reason, INFORMATION, n, d, bins, lower) for reason in reasons]
    dense, classes = dense_labels(labels.cpu())
    reasons = [r or ("classes" if c < 2 else "") for r, c in zip(reasons, classes, strict=True)]
    where = _bins_of(x, bins, lower)
    orders = row_orders(seeds, n, permutations=permutations, device=torch.device("cpu"))
    orders[:, 0] = torch.arange(n)
    found = [
        _information(where, dense.gather(1, orders[:, j]).to(x.device), bins + 1, max(classes))
        for j in range(1 + permutations)
    ]
    estimates = []
    for i in range(t):
        if reasons[i]:
            estimates.append(_missing(reasons[i], INFORMATION, n, d, bins, lower))
            continue
        value, raw, error = (float(part[i]) for part in found[0])
        mean, deviation = null_of([float(one[0][i]) for one in found[1:]])
        ceiling = label_entropy(labels[i].cpu().numpy()) / math.log(2)
        estimates.append(
            Estimate(
                value, "bits", n, INFORMATION, VERSION, mean, deviation, ceiling,
                value > SATURATION * ceiling, (value - 1.96 * error, value + 1.96 * error),
                parameters={**_parameters(d, bins, lower), "raw": raw},
            )
        )  # fmt: skip
    return estimates


def joint_binned_entropy(
    x: Tensor, *, bins: int = 30, lower: float | None = None
) -> list[Estimate]:
    """Return the entropy of the rows' tuples of bins, in bits: the estimator as published, for comparison.

    Ceiling: log2 n; saturated above 0.8 of it, as it is with four columns of continuous values at any usual n. Null and
    band: none. Undefined, arguments and errors as in `binned_entropy`. Cost O(t n d log n).
    """
    _check(x, bins)
    t, n, d = x.shape
    reasons = _reasons(x, bins)
    if t == 0 or reasons[0] in ("n", "d"):
        return [_missing(reason, JOINT, n, d, bins, lower) for reason in reasons]
    estimates = []
    for reason, where in zip(reasons, _bins_of(x, bins, lower), strict=True):
        if reason:
            estimates.append(_missing(reason, JOINT, n, d, bins, lower))
            continue
        p = torch.unique(where.T, dim=0, return_counts=True)[1].double() / n
        value, ceiling = float(-(p * p.log2()).sum()), math.log2(n)
        estimates.append(
            Estimate(
                value, "bits", n, JOINT, VERSION, ceiling=ceiling, saturated=value > SATURATION * ceiling,
                parameters=_parameters(d, bins, lower),
            )
        )  # fmt: skip
    return estimates


def _bins_of(x: Tensor, bins: int, lower: float | None) -> Tensor:
    """Return the bin of every value, int64 ``(t, d, n)``: 0 at or below ``lower``, the others from 1 on."""
    columns = torch.where(x.isfinite(), x, 0.0).mT.contiguous()
    values, order = columns.sort(dim=-1)
    is_new = torch.ones_like(values, dtype=torch.bool)
    is_new[..., 1:] = values[..., 1:] != values[..., :-1]
    is_low = values <= lower if lower is not None else torch.zeros_like(is_new)
    place = (is_new & ~is_low).cumsum(-1) - 1
    distinct = place[..., -1:] + 1
    found = torch.where(is_low, 0, 1 + place * bins // distinct.clamp(min=1))
    return torch.empty_like(found).scatter_(-1, order, found)


def _counts(where: Tensor, size: int) -> Tensor:
    """Return how many of ``where (..., n)`` have each of ``size`` values, float64 ``(..., size)``."""
    counts = torch.zeros(*where.shape[:-1], size, dtype=torch.float64, device=where.device)
    return counts.scatter_add_(-1, where, torch.ones_like(where, dtype=torch.float64))


def _information(
    where: Tensor, labels: Tensor, size: int, classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return corrected value, raw value and standard error in bits, ``(t,)`` each: means over columns."""
    n = where.shape[-1]
    joint = _counts(where * classes + labels.unsqueeze(1), size * classes)
    table = joint.reshape(*joint.shape[:-1], size, classes)
    rows, columns = table.sum(-1, keepdim=True), table.sum(-2, keepdim=True)
    ratio = table * n / (rows * columns).clamp(min=1.0)
    log = torch.where(table > 0, ratio.clamp(min=1e-300).log2(), 0.0)
    raw = (table * log).sum((-2, -1)) / n
    variance = ((table * log.square()).sum((-2, -1)) / n - raw.square()).clamp(min=0.0)
    occupied = [(part > 0).sum((-2, -1)) for part in (rows, columns, table)]
    excess = occupied[0] + occupied[1] - occupied[2] - 1
    value = raw + excess / (2.0 * n * math.log(2))
    return value.mean(-1), raw.mean(-1), (variance / n).sqrt().mean(-1)


def _check(x: Tensor, bins: int) -> None:
    if x.ndim != 3 or bins < 1:
        raise ValueError(f"x, bins: expected (t, n, d) and 1 or more, got {tuple(x.shape)}, {bins}")


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
