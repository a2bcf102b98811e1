"""How far predictions have moved, as the Fisher-Rao distance of categorical distributions.

The distance of p and q is 2 arccos(sum sqrt(p q)), from 0 to pi, and sqrt(2 KL) to second order
(Atkinson and Mitchell, "Rao's distance measure", 1981). Merging categories never makes it larger
(Chentsov), so that a list of the likeliest tokens with the rest as one more gives a lower bound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.verdicts import SATURATION

POLICY = "policy_fisher_step"
OF_KL = "policy_fisher_step_of_kl"
VERSION = 1
FARTHEST = math.pi
ROUNDING = 1e-3
"""By how much listed probabilities may sum to more than 1."""


def categorical_fisher(p: Tensor, q: Tensor) -> Tensor:
    """Return the distance of distributions ``p`` and ``q``, unit 1, 0 to pi.

    Computed from the chord |sqrt p - sqrt q| of the sphere, which keeps the digits that arccos
    loses for near distributions: relative error about 1e-15 in float64. Negative entries count as
    0, NaN gives NaN; distributions are not normalised here.

    Args:
        p: Shape ``(..., k)``, sums to 1 over the last dimension.
        q: The same.

    Returns:
        Shape ``(...)``, in the dtype of the input. Cost O(k) a distribution.

    Raises:
        ValueError: If the shapes differ or have no dimension.
    """
    if p.ndim == 0 or p.shape != q.shape:
        raise ValueError(f"p, q: expected (..., k) twice, got {tuple(p.shape)}, {tuple(q.shape)}")
    chord = (p.clamp(min=0.0).sqrt() - q.clamp(min=0.0).sqrt()).norm(dim=-1)
    distance: Tensor = 4.0 * (0.5 * chord).clamp(max=math.sqrt(0.5)).asin()
    return distance


def policy_fisher_step(now: Tensor, before: Tensor) -> list[Estimate]:
    """Return the mean distance of predictions at the same positions, unit 1, 0 to pi.

    The k listed tokens, and all others together as one more: coarser, so a lower bound, and the
    same only for the same lists. Listed probabilities that sum to more than 1 by rounding are
    scaled to 1.

    Null: 0, since one model evaluated twice agrees to rounding. Ceiling: pi, of distributions
    without a common token; saturated above 0.8 of it. Band: 1.96 standard errors over positions,
    taken as independent; absent below 2 positions.

    Undefined: ``"n"`` without positions, ``"d"`` without listed tokens, ``"nan"`` for a
    log-probability that is NaN or +inf, or a sum above 1.001.

    Args:
        now: Natural log-probabilities ``(t, n, k)``; -inf for places of the list that are empty.
        before: The same tokens, in the same places, earlier.

    Returns:
        ``t`` estimates. Cost O(t n k), float64.

    Raises:
        ValueError: If the shapes differ or have not three dimensions.
    """
    if now.ndim != 3 or now.shape != before.shape:
        raise ValueError(
            f"now, before: expected (t, n, k) twice, got {tuple(now.shape)}, {tuple(before.shape)}"
        )
    p, q = (_with_tail(side.to(torch.float64).exp()) for side in (now, before))
    parameters = {"k": int(now.shape[2])}
    reason = "" if now.shape[2] else "d"
    return _means(categorical_fisher(p, q), reason, POLICY, parameters)


def policy_fisher_step_of_kl(kl: Tensor) -> list[Estimate]:
    """Return the mean of sqrt(2 KL) over positions: the distance of near distributions, unit 1.

    For divergences that are known already, in whichever direction; each must be a divergence of
    whole distributions. One-sample estimates ln p - ln q are not: their negative values would count
    as 0 and the mean read high. Overstates distances beyond about 1.

    Null, band and undefined as in `policy_fisher_step`, which has the ceiling that this has not.

    Args:
        kl: Shape ``(t, n)``, nats.

    Returns:
        ``t`` estimates.

    Raises:
        ValueError: If ``kl`` has not two dimensions.
    """
    if kl.ndim != 2:
        raise ValueError(f"kl: expected (t, n), got {tuple(kl.shape)}")
    return _means((2.0 * kl.to(torch.float64).clamp(min=0.0)).sqrt(), "", OF_KL, {})


def _with_tail(p: Tensor) -> Tensor:
    """Return listed probabilities ``(..., k)`` and the rest, NaN where they sum to more than 1."""
    total = p.sum(-1, keepdim=True)
    scaled = torch.where(total > 1.0, p / total, p)
    scaled = torch.where(total > 1.0 + ROUNDING, torch.nan, scaled)
    return torch.cat([scaled, (1.0 - total).clamp(min=0.0)], -1)


def _means(
    distances: Tensor, reason: str, estimator: str, parameters: Mapping[str, float | int | str]
) -> list[Estimate]:
    """Return one estimate per item of ``distances (t, n)``."""
    n = int(distances.shape[1])
    means = distances.mean(1).tolist()
    errors = distances.std(1).tolist() if n > 1 and means else [math.nan] * len(means)
    ceiling = FARTHEST if estimator == POLICY else None
    estimates = []
    for value, deviation in zip(means, errors, strict=True):
        why = reason or ("n" if n == 0 else "" if math.isfinite(value) else "nan")
        if why:
            estimates.append(
                Estimate.missing(
                    why,
                    unit="1",
                    n=n,
                    estimator=estimator,
                    version=VERSION,
                    parameters=parameters,
                )
            )
            continue
        error = 1.96 * deviation / math.sqrt(n)
        estimates.append(
            Estimate(
                value=value,
                unit="1",
                n=n,
                estimator=estimator,
                version=VERSION,
                null_mean=0.0,
                ceiling=ceiling,
                saturated=ceiling is not None and value > SATURATION * ceiling,
                band=(value - error, value + error) if n > 1 else None,
                parameters=parameters,
            )
        )
    return estimates
