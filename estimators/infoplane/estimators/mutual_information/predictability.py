"""How well each tap is predicted by the others, and a test that their rows belong together.

For taps side by side with joint covariance S and precision P, the Gaussian information between
tap l and the rest is 1/2 [ln det S_ll + ln det P_ll]: one inverse answers for every tap. The
rest predicts a tap well only if rows were joined rightly, so a sudden fall to the null marks a
wrong join, a wrong micro-batch index or corrupted activations.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.joint_correlation import (
    information_bias,
    information_variance,
    joint_correlation,
    log_det_mean,
)
from infoplane.estimators.mutual_information.verdicts import SATURATION
from infoplane.estimators.state.moments import Moments

PREDICTABILITY = "tap_predictability"
CORRELATION = "tap_total_correlation"
INTEGRITY = "tap_join_integrity"
VERSION = 1
RIDGE = 1e-6
WINDOWS = 20
FEWEST_WINDOWS = 5
NOTHING = 1e-9
"""Median predictability in nats that is no evidence of any join."""

FloatArray = npt.NDArray[np.float64]
Parameters = Mapping[str, float | int | str]


@dataclass(frozen=True, slots=True)
class TapPredictability:
    """Readings of one joint window.

    Attributes:
        per_tap: I(tap; all others) in nats, one per tap.
        total_correlation: Sum of the taps' entropies less the joint entropy, in nats.
    """

    per_tap: list[Estimate]
    total_correlation: Estimate


@dataclass(frozen=True, slots=True, eq=False)
class _Joint:
    """Correlation and precision of the varying columns, and the columns of every tap."""

    n: float
    correlation: FloatArray
    precision: FloatArray
    rank: int
    taps: list[slice]

    @property
    def width(self) -> int:
        return int(self.correlation.shape[0])


def tap_predictability(
    joint: Moments, widths: Sequence[int], *, ridge: float = RIDGE
) -> TapPredictability:
    """Return the predictability of every tap and the total correlation, as if rows were Gaussian.

    Eigenvalues of the joint correlation below ``ridge`` are raised to it, so that duplicated
    columns give a large finite value; ``parameters`` holds the number that lie above as
    ``rank``. With full rank nothing is changed. Columns that do not vary are left out. The bias is
    taken off exactly for Gaussian rows (digamma sums of the Wishart log-determinants, for tap
    width w of p columns about w (p - w) / 2n); for singular moments it is only nominal.

    Null (analytic): 0 for independent Gaussian taps, with the exact standard deviation. Ceiling:
    min(1/2 ln n, 1/2 ln(1 / ridge)) for each of min(w, p - w) directions, and of p less the widest
    tap for the total; saturated above 0.8 of it, as replicas of one tap must be. Band: value
    +- 1.96 standard errors, first order in 1/n plus the null's variance, for independent rows.

    Undefined: ``"n"`` when n < D + 2, D the joint width, ``"nan"`` when any moment is, and
    ``"constant"`` for a tap without a varying column or with nothing that varies beside it.

    Args:
        joint: Moments of the taps' rows side by side.
        widths: Columns of each tap, in order.
        ridge: Smallest eigenvalue of the correlation; above 0.

    Returns:
        The readings. Cost O(D^3) in float64: one eigendecomposition.

    Raises:
        ValueError: If widths are negative or do not sum to the joint width, or ridge is not
            within 0 and 1.
    """
    if any(width < 0 for width in widths) or sum(widths) != joint.d:
        raise ValueError(f"widths: expected to sum to {joint.d}, got {list(widths)}")
    if not 0.0 < ridge < 1.0:
        raise ValueError(f"ridge: expected a number between 0 and 1, got {ridge}")
    correlation = joint_correlation(joint)
    ends = np.cumsum([0, *widths])
    parameters: dict[str, float | int | str] = {"d": joint.d, "taps": len(widths), "ridge": ridge}
    if correlation.reason:
        n = int(correlation.n)
        return TapPredictability(
            [
                _missing(correlation.reason, n, PREDICTABILITY, {**parameters, "width": width})
                for width in widths
            ],
            _missing(correlation.reason, n, CORRELATION, parameters),
        )
    varies = correlation.varies
    before = np.concatenate([[0], np.cumsum(varies)])
    taps = [slice(int(before[a]), int(before[b])) for a, b in pairwise(ends)]
    held = _regular(correlation.matrix[varies][:, varies], ridge)
    prepared = _Joint(correlation.n, *held, taps)
    parameters["rank"] = prepared.rank
    return TapPredictability(
        [
            _tap(prepared, tap, {**parameters, "width": width})
            for tap, width in zip(taps, widths, strict=True)
        ],
        _total(prepared, parameters),
    )


def join_integrity(value: float, history: Sequence[float]) -> Estimate:
    """Return a tap's predictability over the median of its former windows, a ratio.

    About 1 while rows are joined rightly, near 0 when one tap's rows are shuffled; below 0.3
    all cross-tap metrics of the window are void. A negative value reads 0. It can exceed 1.

    Null: an intact join, mean 1, with 1.4826 median absolute deviations of the history over
    the median as standard deviation. No ceiling and no band.

    Undefined: ``"nan"`` for a value that is not finite, ``"history"`` with fewer than 5 finite
    windows among the last 20, or when their median is not above 0.

    Args:
        value: This window's predictability in nats.
        history: Former windows, oldest first.

    Returns:
        The estimate; n counts the windows compared with.
    """
    former = [past for past in history[-WINDOWS:] if math.isfinite(past)]
    parameters: Parameters = {"windows": WINDOWS}
    median = statistics.median(former) if former else 0.0
    enough = len(former) >= FEWEST_WINDOWS and median > NOTHING
    ratio = max(value, 0.0) / median if enough else 0.0
    if not (enough and math.isfinite(value) and math.isfinite(ratio)):
        return Estimate.missing(
            "history" if math.isfinite(value) and not enough else "nan",
            unit="ratio",
            n=len(former),
            estimator=INTEGRITY,
            version=VERSION,
            parameters=parameters,
        )
    deviation = statistics.median(abs(past - median) for past in former)
    return Estimate(
        value=ratio,
        unit="ratio",
        n=len(former),
        estimator=INTEGRITY,
        version=VERSION,
        null_mean=1.0,
        null_sd=1.4826 * deviation / median,
        parameters=parameters,
    )


def _regular(correlation: FloatArray, ridge: float) -> tuple[FloatArray, FloatArray, int]:
    """Return correlation and precision with eigenvalues of at least ``ridge``, and the rank."""
    eigenvalues, vectors = np.linalg.eigh(correlation)
    rank = int((eigenvalues > ridge).sum())
    raised = np.maximum(eigenvalues, ridge)
    if rank < eigenvalues.size:
        correlation = (vectors * raised) @ vectors.T
    return correlation, (vectors / raised) @ vectors.T, rank


def _log_det(matrix: FloatArray) -> float:
    return float(np.linalg.slogdet(matrix)[1])


def _tap(joint: _Joint, tap: slice, parameters: Parameters) -> Estimate:
    width = tap.stop - tap.start
    rest = joint.width - width
    if width == 0 or rest == 0:
        return _missing("constant", int(joint.n), PREDICTABILITY, parameters)
    block, precision = joint.correlation[tap, tap], joint.precision[tap, tap]
    value = 0.5 * (_log_det(block) + _log_det(precision))
    value -= information_bias(joint.n, width, rest)
    variance = information_variance(joint.n, width, rest)
    # The squared canonical correlations sum to w - tr(S_ll^-1 P_ll^-1).
    unexplained = float(np.trace(np.linalg.inv(precision @ block)))
    error = math.sqrt(max(width - unexplained, 0.0) / joint.n + variance)
    return _estimate(PREDICTABILITY, joint, value, error, variance, min(width, rest), parameters)


def _total(joint: _Joint, parameters: Parameters) -> Estimate:
    sizes = [tap.stop - tap.start for tap in joint.taps if tap.stop > tap.start]
    if len(sizes) < 2:
        return _missing("constant", int(joint.n), CORRELATION, parameters)
    blocks = [joint.correlation[tap, tap] for tap in joint.taps]
    value = 0.5 * (sum(map(_log_det, blocks)) + _log_det(joint.precision))
    # The total is a sum of independent informations: of each tap and those before it.
    reached = np.cumsum([0, *sizes]).tolist()
    variance = sum(
        information_variance(joint.n, size, before)
        for size, before in zip(sizes, reached, strict=False)
        if before
    )
    value -= 0.5 * (
        sum(log_det_mean(joint.n, size) for size in sizes) - log_det_mean(joint.n, joint.width)
    )
    slope = np.concatenate(
        [
            np.linalg.solve(block, joint.correlation[tap])
            for block, tap in zip(blocks, joint.taps, strict=True)
        ]
    ) - np.eye(joint.width)
    error = math.sqrt(max(float(np.sum(slope * slope.T)), 0.0) / (2.0 * joint.n) + variance)
    return _estimate(
        CORRELATION, joint, value, error, variance, joint.width - max(sizes), parameters
    )


def _estimate(
    name: str,
    joint: _Joint,
    value: float,
    error: float,
    variance: float,
    directions: int,
    parameters: Parameters,
) -> Estimate:
    ridge = float(parameters["ridge"])
    ceiling = 0.5 * directions * min(math.log(joint.n), -math.log(ridge))
    return Estimate(
        value=value,
        unit="nats",
        n=int(joint.n),
        estimator=name,
        version=VERSION,
        null_mean=0.0,
        null_sd=math.sqrt(variance),
        ceiling=ceiling,
        saturated=value > SATURATION * ceiling,
        band=(value - 1.96 * error, value + 1.96 * error),
        parameters=parameters,
    )


def _missing(reason: str, n: int, name: str, parameters: Parameters) -> Estimate:
    return Estimate.missing(
        reason, unit="nats", n=n, estimator=name, version=VERSION, parameters=parameters
    )
