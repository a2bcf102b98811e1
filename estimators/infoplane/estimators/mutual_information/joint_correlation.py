"""From joint moments of blocks side by side to correlations, and exact laws of their log-dets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular
from scipy.special import polygamma, psi

from infoplane.estimators.state.moments import Moments

FloatArray = npt.NDArray[np.float64]

SMALLEST_PIVOT = 1e-7
"""A Cholesky pivot of a correlation matrix below this counts as linear dependence."""
SMALLEST_VARIANCE = 1e-12
"""Variance over second moment below which a column counts as constant: what rounding leaves."""


@dataclass(frozen=True, slots=True, eq=False)
class JointCorrelation:
    """Correlations of the columns of one `Moments`.

    Attributes:
        n: Rows.
        matrix: Shape ``(d, d)``; a column that does not vary has a unit of its own.
        varies: Which columns vary, shape ``(d,)``.
        reason: Why nothing can be said: ``"n"``, ``"nan"``, ``"constant"``, or ``""``.
    """

    n: float
    matrix: FloatArray
    varies: npt.NDArray[np.bool_]
    reason: str


def joint_correlation(joint: Moments) -> JointCorrelation:
    """Return the correlations of ``joint``; undefined ``"n"`` when n < d + 2. Cost O(d^2)."""
    d = joint.d
    eye, still = np.eye(d), np.zeros(d, dtype=bool)
    if not math.isfinite(joint.n):
        return JointCorrelation(0.0, eye, still, "nan")
    if joint.n < d + 2:
        return JointCorrelation(joint.n, eye, still, "n")
    if not (np.isfinite(joint.outer).all() and np.isfinite(joint.total).all()):
        return JointCorrelation(joint.n, eye, still, "nan")
    second = joint.outer.diagonal()
    scale = np.sqrt(np.where(second > 0, second, 1.0))
    # Columns of unit second moment, so that no product over- or underflows.
    unit = Moments(joint.n, joint.total / scale, joint.outer / scale / scale[:, None])
    covariance = unit.covariance()
    variance = covariance.diagonal()
    varies = (second > 0) & (variance > SMALLEST_VARIANCE / (joint.n - 1.0))
    spread = np.sqrt(np.where(varies, variance, 1.0))
    both = varies & varies[:, None]
    matrix = np.where(both, covariance / spread / spread[:, None], 0.0)
    np.fill_diagonal(matrix, 1.0)
    return JointCorrelation(joint.n, matrix, varies, "" if varies.any() else "constant")


def whitened_cross(matrix: FloatArray, width_x: int) -> FloatArray | None:
    """Return the cross-covariance of two blocks after whitening each.

    Its singular values are the canonical correlations.

    Args:
        matrix: Correlations of x and y side by side, shape ``(dx + dy, dx + dy)``.
        width_x: dx.

    Returns:
        Shape ``(dx, dy)``; None when the columns of one block are linearly dependent.
    """
    x, y = slice(0, width_x), slice(width_x, None)
    left, right = cholesky_root(matrix[x, x]), cholesky_root(matrix[y, y])
    if left is None or right is None:
        return None
    half = solve_triangular(left, matrix[x, y], lower=True)
    return np.asarray(solve_triangular(right, half.T, lower=True).T, dtype=np.float64)


def cholesky_root(matrix: FloatArray) -> FloatArray | None:
    """Return the lower Cholesky factor of ``matrix (d, d)``; None when it is singular."""
    try:
        root = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return None
    # An empty matrix has no pivot and is regular.
    regular = bool(np.all(root.diagonal() > SMALLEST_PIVOT))
    return np.asarray(root, dtype=np.float64) if regular else None


def log_det_mean(n: float, d: int) -> float:
    """Return E ln det of a d x d Wishart matrix of n - 1 freedoms, less terms linear in d.

    f(d) = sum_{i=1..d} psi((n - i) / 2). Terms linear in d cancel in every information.
    """
    return float(np.sum(psi((n - np.arange(1, d + 1)) / 2.0)))


def information_bias(n: float, dx: int, dy: int) -> float:
    """Return the bias of the plug-in Gaussian information in nats, exact for Gaussian rows."""
    return 0.5 * (log_det_mean(n, dx) + log_det_mean(n, dy) - log_det_mean(n, dx + dy))


def information_variance(n: float, dx: int, dy: int) -> float:
    """Return the variance of the plug-in information of independent Gaussian blocks, exact.

    Wilks' determinant ratio is a product of independent Beta((n - dy - i) / 2, dy / 2),
    i = 1..dx, and the variance of ln Beta(a, b) is psi'(a) - psi'(a + b).
    """
    dx, dy = min(dx, dy), max(dx, dy)
    i = np.arange(1, dx + 1)
    terms = polygamma(1, (n - dy - i) / 2.0) - polygamma(1, (n - i) / 2.0)
    return max(0.0, 0.25 * float(np.sum(terms)))
