"""A ridge classifier from additive moments, for usable information without gathering rows.

Class sums and the shared second moment are blocks of the moments of rows ``[x | one-hot label]``.
Shards add those of one half of the rows, fit the same read-out, count predictions of the other half
in a table each, and add the tables for `usable_information_of_table`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from infoplane.estimators.geometry.usable_information import RIDGE, table_of_predictions
from infoplane.estimators.state.moments import Moments

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LinearReadOut:
    """Scores of every class, linear in a row.

    Attributes:
        weights: Shape ``(d, classes)``.
        offset: Shape ``(classes,)``.
    """

    weights: FloatArray
    offset: FloatArray

    def table(self, x: npt.NDArray[Any], labels: npt.NDArray[np.integer]) -> FloatArray:
        """Return counts of predicted (down) and true (across) classes, ``(classes, classes)``.

        Rows that are not finite are left out. Cost O(n d classes).

        Args:
            x: Shape ``(n, d)``.
            labels: Shape ``(n,)``, 0 .. classes - 1.

        Raises:
            ValueError: If shapes do not fit or a label is out of range.
        """
        d, classes = self.weights.shape
        if x.ndim != 2 or x.shape[1] != d or labels.shape != x.shape[:1]:
            raise ValueError(f"x, labels: expected (n, {d}), (n,); got {x.shape}, {labels.shape}")
        if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
            raise ValueError(f"labels: expected 0 to {classes - 1}, got {labels.max()}")
        finite = np.isfinite(x).all(1)
        scores = np.asarray(x[finite], dtype=np.float64) @ self.weights + self.offset
        truth = np.asarray(labels[finite], dtype=np.int64)
        return table_of_predictions(scores.argmax(1), truth, classes)


def labelled_moments(x: npt.NDArray[Any], labels: npt.NDArray[np.integer], classes: int) -> Moments:
    """Return moments of ``[x | one-hot label]``, width d + classes, without rows not finite.

    Args:
        x: Shape ``(n, d)``.
        labels: Shape ``(n,)``, 0 .. classes - 1.
        classes: Number of classes, the same on every shard.

    Returns:
        The moments. Cost O(n (d + classes)^2), float64.

    Raises:
        ValueError: If shapes do not fit or a label is out of range.
    """
    if x.ndim != 2 or labels.shape != x.shape[:1]:
        raise ValueError(f"x, labels: expected (n, d), (n,); got {x.shape}, {labels.shape}")
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"labels: expected 0 to {classes - 1}, got {labels.min()}, {labels.max()}")
    finite = np.isfinite(x).all(1)
    one_hot = np.eye(classes)[np.asarray(labels[finite], dtype=np.int64)]
    return Moments.of_rows(np.concatenate([x[finite], one_hot], axis=1))


def ridge_read_out(moments: Moments, classes: int) -> LinearReadOut | None:
    """Return the classifier that `usable_information` fits on the same rows.

    Regression on one-hot labels with a ridge of 0.01 of the mean variance.

    Args:
        moments: From `labelled_moments`, summed over shards.
        classes: Number of classes: the last columns.

    Returns:
        The read-out; None below 2 rows, when moments are not finite, or when nothing varies.
        Cost O(d^3).

    Raises:
        ValueError: If the moments are narrower than ``classes``.
    """
    d = moments.d - classes
    if classes < 1 or d < 0:
        raise ValueError(f"classes: expected 1 to {moments.d}, got {classes}")
    if moments.n < 2 or not np.isfinite(moments.outer).all():
        return None
    covariance, mean = moments.covariance(), moments.mean()
    inner = covariance[:d, :d]
    scale = float(np.trace(inner)) / max(d, 1)
    second = float(np.trace(moments.outer[:d, :d])) / max(d, 1) / moments.n
    # Moments about zero carry rounding of the mean's size; below it nothing is known to vary.
    if not scale > 1e-12 * second:
        return None
    ridged = inner + RIDGE * scale * np.eye(d)
    weights = np.asarray(np.linalg.solve(ridged, covariance[:d, d:]), dtype=np.float64)
    return LinearReadOut(weights, mean[d:] - mean[:d] @ weights)
