"""Von Neumann entropy of a covariance spectrum, and the effective rank.

With p the eigenvalues of the centred covariance over their sum, S = -sum p ln p. It is ln r for
r equal eigenvalues, does not change under rotation and scaling, and falls when few directions
take over. Read together with the size of the mean, which centring removes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.geometry.spectrum import FloatArray, Spectrum, spectra_of
from infoplane.estimators.state.moments import Moments

ESTIMATOR = "von_neumann_entropy"
ESTIMATOR_RANK = "effective_rank"
VERSION = 1


@dataclass(frozen=True, slots=True)
class _Entropy:
    """Plug-in value, correction of first order in 1/n, standard error, ``(t,)`` each."""

    value: FloatArray
    correction: FloatArray
    error: FloatArray


def von_neumann_entropy(
    moments: Sequence[Moments | Spectrum], *, device: str | torch.device = "cpu"
) -> list[Estimate]:
    """Return the von Neumann entropy in nats of every item's covariance.

    The plug-in value reads low by about (d + 1) / 2n for an isotropic spectrum. Its bias of
    order 1/n for any spectrum, from second-order perturbation of a Wishart matrix with
    v = n - 1 degrees of freedom, is added back, with sample eigenvalues p in place of true ones:

        (1/v) [1 + 1/2 sum_{i != j} p_i p_j / L(p_i, p_j) - q + 2a - 2 q S],

    q = sum p^2, a = -sum p^2 ln p, L the logarithmic mean. The result never exceeds ln d. It
    takes rows to be independent and Gaussian; rows of one sequence are correlated, so that
    their number overstates the information and the correction is too small. It vanishes as
    n grows, and means little when n < 2d: hold n fixed.

    Ceiling: ln d, or ln(n - 1) when that is smaller; ``saturated`` says that n is what limits
    it. Band: value +- 1.96 standard errors, first order, same assumptions.

    Undefined: ``"n"`` below 2 rows or without columns, ``"nan"``, ``"constant"`` when nothing
    varies.

    Args:
        moments: One per item, or its spectrum; widths may differ.
        device: Where eigenvalues are computed, in float64.

    Returns:
        One estimate per item. Cost O(d^3) each; equal widths are batched.
    """
    found = spectra_of(moments, device)
    answers: dict[int, Estimate] = {}
    groups: dict[int, list[int]] = {}
    for i, item in enumerate(found):
        if item.reason:
            answers[i] = _missing(item)
        else:
            groups.setdefault(item.d, []).append(i)
    for members in groups.values():
        values = np.stack([found[i].eigenvalues for i in members])
        entropy = _entropy(values, np.array([found[i].n for i in members]))
        for i, *numbers in zip(
            members,
            entropy.value.tolist(),
            entropy.correction.tolist(),
            entropy.error.tolist(),
            strict=True,
        ):
            answers[i] = _estimate(found[i], *numbers)
    return [answers[i] for i in range(len(found))]


def effective_rank(
    moments: Sequence[Moments | Spectrum | Estimate], *, device: str | torch.device = "cpu"
) -> list[Estimate]:
    """Return exp of `von_neumann_entropy`: how many equal directions have that entropy.

    Unit 1, from 1 to d. Ceiling, band and undefined reasons follow from the entropy.

    Args:
        moments: One per item, its spectrum, or its entropy.
        device: Where eigenvalues are computed, in float64.
    """
    others = [item for item in moments if not isinstance(item, Estimate)]
    fresh = iter(von_neumann_entropy(others, device=device))
    entropies = [item if isinstance(item, Estimate) else next(fresh) for item in moments]
    return [
        replace(
            item,
            value=math.exp(item.value) if item.defined else item.value,
            unit="1",
            estimator=ESTIMATOR_RANK,
            ceiling=None if item.ceiling is None else math.exp(item.ceiling),
            band=None if item.band is None else (math.exp(item.band[0]), math.exp(item.band[1])),
        )
        for item in entropies
    ]


def _entropy(eigenvalues: FloatArray, n: FloatArray) -> _Entropy:
    p = eigenvalues / eigenvalues.sum(-1, keepdims=True)
    log = np.log(np.maximum(p, 1e-300))
    entropy = -(p * log).sum(-1)
    q = np.square(p).sum(-1)
    a = -(np.square(p) * log).sum(-1)
    freedom = n - 1.0
    curvature = 1.0 + _pair_curvature(p, log)
    correction = (curvature - q + 2.0 * a - 2.0 * q * entropy) / freedom
    slope = -log - entropy[:, None]
    error = np.sqrt(2.0 * np.square(p * slope).sum(-1) / freedom)
    return _Entropy(entropy, correction, error)


def _pair_curvature(p: FloatArray, log: FloatArray) -> FloatArray:
    """Return the sum over i < j of p_i p_j / L(p_i, p_j), shape ``(t,)``, for ascending p."""
    i, j = np.triu_indices(p.shape[-1], 1)
    low, high = p[:, i], p[:, j]
    difference = high - low
    # 1 / L tends to 1 / p for equal values, where the quotient loses its digits.
    near = difference <= 1e-6 * high
    mean = np.maximum(0.5 * (low + high), 1e-300)
    inverse = np.where(near, 1.0 / mean, (log[:, j] - log[:, i]) / np.where(near, 1.0, difference))
    found: FloatArray = (low * high * inverse).sum(-1)
    return found


def _estimate(item: Spectrum, entropy: float, correction: float, error: float) -> Estimate:
    widest = math.log(item.d)
    resolved = math.log(max(item.n - 1.0, 1.0))
    value = min(max(entropy + max(correction, 0.0), 0.0), widest)
    return Estimate(
        value=value,
        unit="nats",
        n=int(item.n),
        estimator=ESTIMATOR,
        version=VERSION,
        ceiling=min(widest, resolved),
        saturated=resolved < widest,
        band=(value - 1.96 * error, value + 1.96 * error),
        parameters={"d": item.d},
    )


def _missing(item: Spectrum) -> Estimate:
    return Estimate.missing(
        item.reason,
        unit="nats",
        n=int(item.n),
        estimator=ESTIMATOR,
        version=VERSION,
        parameters={"d": item.d},
    )
