"""Entropy of activations from their histogram: a mass at zero, a density elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.state.histogram import LogHistogram

ESTIMATOR = "activation_entropy"
ESTIMATOR_DEAD = "activation_dead_ratio"
VERSION = 1
GAUSSIAN_NATS = 0.5 * math.log(2.0 * math.pi * math.e)

Scale = Literal["rms", "std", "none"]


def activation_entropy(
    histograms: Sequence[LogHistogram], *, scale: Scale = "rms"
) -> list[Estimate]:
    """Return the entropy in nats of every histogram's values, free of their scale.

    With p0 the share of zeros, and h the differential entropy of the non-zero values after
    division by their scale,

        H = -p0 ln p0 - (1 - p0) ln(1 - p0) + (1 - p0) h,

    the entropy with respect to a point at zero plus length. h takes the density as even within
    a bucket and is Miller-Madow corrected. N(0, 1) gives 1/2 ln(2 pi e) = 1.4189; all zeros give
    0. The buckets are 9 % wide, so values that agree within one bucket reach a floor of -2.45,
    which ``saturated`` reports.

    ``scale`` is what non-zero values are divided by: their root mean square, their standard
    deviation (which the buckets resolve poorly when the mean is much larger), or nothing, when
    H moves with the logarithm of the scale. Ceiling: the Gaussian's value at the same p0,
    which nothing of unit mean square exceeds; none without a scale.

    Undefined: ``"n"`` when empty, ``"nan"`` when all values were non-finite, ``"constant"`` when
    ``scale="std"`` and nothing varies. Infinities and NaN beside other values are left out.

    Args:
        histograms: One per item, signed or not.
        scale: What to divide by; recorded in ``parameters``.

    Returns:
        One estimate per item. Cost O(buckets).
    """
    return [_activation_entropy(histogram, scale) for histogram in histograms]


def activation_dead_ratio(histograms: Sequence[LogHistogram]) -> list[Estimate]:
    """Return the share of zeros (magnitude below 2^-24) among every histogram's finite values.

    Ratio, 0 to 1. Undefined as in `activation_entropy`.
    """
    estimates = []
    for histogram in histograms:
        total = histogram.total
        if total == 0:
            reason = "nan" if histogram.nonfinite else "n"
            estimates.append(
                Estimate.missing(
                    reason, unit="ratio", n=0, estimator=ESTIMATOR_DEAD, version=VERSION
                )
            )
            continue
        estimates.append(
            Estimate(
                value=histogram.zero_count / total,
                unit="ratio",
                n=total,
                estimator=ESTIMATOR_DEAD,
                version=VERSION,
            )
        )
    return estimates


def _activation_entropy(histogram: LogHistogram, scale: Scale) -> Estimate:
    total = histogram.total
    zeros = histogram.zero_count
    if total == 0:
        return _missing("nan" if histogram.nonfinite else "n", 0, scale)
    p0 = zeros / total
    if zeros == total:
        return _missing("constant", total, scale) if scale == "std" else _of(0.0, 0.0, total, scale)
    edges = histogram.buckets.edges()
    low, high = edges[:-1], edges[1:]
    held = histogram.counts > 0
    held[histogram.buckets.zero_index] = False
    low, high, count = low[held], high[held], histogram.counts[held].astype(np.float64)
    p = count / count.sum()
    entropy = float(-(p * np.log(p / (high - low))).sum())
    entropy += (count.size - 1) / (2.0 * float(count.sum()))
    # Moments of an even density within each bucket.
    second = float((p * (low * low + low * high + high * high)).sum()) / 3.0
    mean = float((p * (low + high)).sum()) / 2.0
    if scale != "none":
        entropy -= 0.5 * math.log(second if scale == "rms" else second - mean * mean)
    mixture = _binary_entropy(p0) + (1.0 - p0) * entropy
    ceiling = None if scale == "none" else _binary_entropy(p0) + (1.0 - p0) * GAUSSIAN_NATS
    return _of(mixture, ceiling, total, scale, saturated=count.size == 1)


def _binary_entropy(p: float) -> float:
    return -sum(q * math.log(q) for q in (p, 1.0 - p) if q > 0)


def _of(
    value: float, ceiling: float | None, n: int, scale: Scale, *, saturated: bool = False
) -> Estimate:
    return Estimate(
        value=value,
        unit="nats",
        n=n,
        estimator=ESTIMATOR,
        version=VERSION,
        ceiling=ceiling,
        saturated=saturated,
        parameters={"scale": scale},
    )


def _missing(reason: str, n: int, scale: Scale) -> Estimate:
    return Estimate.missing(
        reason,
        unit="nats",
        n=n,
        estimator=ESTIMATOR,
        version=VERSION,
        parameters={"scale": scale},
    )
