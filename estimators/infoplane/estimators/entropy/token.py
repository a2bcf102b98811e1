"""Mean entropy of the next-token distribution over sampled positions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from infoplane.estimators.estimate import Estimate

ESTIMATOR = "token_entropy"
VERSION = 1


def token_entropy(entropies: npt.NDArray[Any], *, vocabulary: int | None = None) -> Estimate:
    """Return the mean of per-token entropies in nats (the policy entropy).

    Band: mean +- 1.96 standard errors for independently sampled positions. Ceiling: ln of the
    vocabulary when that is given; ``saturated`` above 0.99 of it, a uniform distribution.
    Positions with a non-finite entropy are left out.

    Undefined: ``"n"`` without positions, ``"nan"`` when none is finite.

    Args:
        entropies: Entropy of the distribution at each sampled position, shape ``(n,)``, nats.
        vocabulary: Number of tokens.

    Returns:
        The estimate; n counts the finite positions. Cost O(n).
    """
    values = np.asarray(entropies, dtype=np.float64).ravel()
    finite = values[np.isfinite(values)]
    n = int(finite.size)
    if n == 0:
        reason = "nan" if values.size else "n"
        return Estimate.missing(reason, unit="nats", n=0, estimator=ESTIMATOR, version=VERSION)
    mean = float(finite.mean())
    error = float(finite.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    ceiling = math.log(vocabulary) if vocabulary is not None and vocabulary > 0 else None
    return Estimate(
        value=mean,
        unit="nats",
        n=n,
        estimator=ESTIMATOR,
        version=VERSION,
        ceiling=ceiling,
        saturated=ceiling is not None and mean > 0.99 * ceiling,
        band=(mean - 1.96 * error, mean + 1.96 * error) if n > 1 else None,
    )
