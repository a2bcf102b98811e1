"""Generalization gap: held-out loss less training loss, with its sampling error."""

from __future__ import annotations

import math

from infoplane.estimators.estimate import Estimate

ESTIMATOR = "generalization_gap"
VERSION = 1

LossSums = tuple[float, float, float]
"""Count, sum and sum of squares of losses in nats. Those of shards add, entry by entry."""


def generalization_gap(train: LossSums, held: LossSums) -> Estimate:
    """Return the mean held-out loss less the mean training loss, in nats.

    Null: 0, the same loss on both, with the standard error of the difference,
    sqrt(s^2 / n + s'^2 / n'). Band: value +- 1.96 of it. Both are analytic and take losses to
    be independent: tokens of one sequence are not, so give one mean loss per sequence. No ceiling.

    Undefined: ``"n"`` with fewer than 2 losses on either side, ``"nan"``.

    Args:
        train: Sums of training losses.
        held: Sums of held-out losses.

    Returns:
        The estimate; n is the smaller of the two counts, which limits it. Cost O(1).
    """
    if not all(map(math.isfinite, (*train, *held))):
        return _missing("nan", 0)
    n = int(min(train[0], held[0]))
    if n < 2:
        return _missing("n", max(n, 0))
    gap = held[1] / held[0] - train[1] / train[0]
    variances = [(square - total * total / m) / ((m - 1) * m) for m, total, square in (train, held)]
    if not all(map(math.isfinite, (gap, *variances))):
        return _missing("nan", n)
    # Rounding can leave a variance below zero.
    error = math.sqrt(sum(max(variance, 0.0) for variance in variances))
    return Estimate(
        value=gap,
        unit="nats",
        n=n,
        estimator=ESTIMATOR,
        version=VERSION,
        null_mean=0.0,
        null_sd=error,
        band=(gap - 1.96 * error, gap + 1.96 * error),
    )


def _missing(reason: str, n: int) -> Estimate:
    return Estimate.missing(reason, unit="nats", n=n, estimator=ESTIMATOR, version=VERSION)
