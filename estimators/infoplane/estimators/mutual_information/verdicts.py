"""From numbers of a batch to `Estimate` records: null, band, ceiling, undefined reasons."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate

SATURATION = 0.8
"""Share of the ceiling above which a value counts as saturated."""


def nonfinite_items(*arrays: Tensor) -> list[bool]:
    """Return for every item of ``arrays (t, n, d)`` whether any number is not finite."""
    flags = torch.stack([~a.isfinite().flatten(1).all(-1) for a in arrays])
    return [bool(flag) for flag in flags.any(0).tolist()]


def constant_items(x: Tensor) -> list[bool]:
    """Return for every item of ``x (t, n, d)`` whether no column varies."""
    if x.shape[1] == 0 or x.shape[2] == 0:
        return [True] * x.shape[0]
    return [bool(flag) for flag in (x == x[:, :1]).flatten(1).all(-1).tolist()]


def estimates_of_terms(
    terms: Sequence[Tensor],
    *,
    n: int,
    reasons: Sequence[str],
    ceilings: Sequence[float],
    estimator: str,
    version: int,
    parameters: Mapping[str, float | int | str],
) -> list[Estimate]:
    """Return one estimate in nats per item.

    Args:
        terms: Chunks of ``(t, 1 + permutations, n)``: per-row terms, the value is their mean;
            NaN rows are left out; the first row is the value, the others the null. May be
            empty when all items are undefined.
        n: Rows.
        reasons: Per item why it is undefined, or ``""``.
        ceilings: Per item.
        estimator: Identifier.
        version: Of the estimator.
        parameters: Of the estimator.
    """
    rows = [item for chunk in terms for item in _summaries(chunk)]
    estimates = []
    for i, (reason, ceiling) in enumerate(zip(reasons, ceilings, strict=True)):
        if not reason and not math.isfinite(rows[i][0][0]):
            reason = "n"
        if reason:
            missing = Estimate.missing(
                reason,
                unit="nats",
                n=n,
                estimator=estimator,
                version=version,
                parameters=parameters,
            )
            estimates.append(missing)
            continue
        means, error = rows[i]
        value, null = means[0], means[1:]
        null_mean, null_sd = null_of(null)
        estimates.append(
            Estimate(
                value=value,
                unit="nats",
                n=n,
                estimator=estimator,
                version=version,
                null_mean=null_mean,
                null_sd=null_sd,
                ceiling=ceiling,
                saturated=value > SATURATION * ceiling,
                band=(value - 1.96 * error, value + 1.96 * error),
                parameters=parameters,
            )
        )
    return estimates


def null_of(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return mean and sample standard deviation of null draws, None where there are too few."""
    held = [value for value in values if math.isfinite(value)]
    if not held:
        return None, None
    mean = sum(held) / len(held)
    if len(held) < 2:
        return mean, None
    return mean, math.sqrt(sum((v - mean) ** 2 for v in held) / (len(held) - 1))


def standard_errors(terms: Tensor) -> Tensor:
    """Return the standard error of the mean of the finite ones among ``terms (t, n)``, ``(t,)``."""
    held = terms.isfinite().sum(-1).clamp(min=2)
    centred = (terms - terms.nanmean(-1, keepdim=True)).nan_to_num()
    return (centred.square().sum(-1) / (held * (held - 1))).sqrt()


def _summaries(terms: Tensor) -> list[tuple[list[float], float]]:
    """Return per item the means ``(1 + permutations)`` and the first one's standard error."""
    means = terms.nanmean(-1)
    return list(zip(means.tolist(), standard_errors(terms[:, 0]).tolist(), strict=True))
