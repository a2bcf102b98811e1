"""Sums of unit rows per label: mergeable, of bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from infoplane.estimators.state.labelled_sums import (
    CountArray,
    FloatArray,
    counted_labels,
    summed_by_label,
)

MAX_LABELS = 1024


@dataclass(frozen=True, slots=True, eq=False)
class ClassSums:
    """For every label the number of its rows and the sum of their directions.

    At most ``max_labels`` labels are kept: those of smallest value among all labels seen; rows
    of the others are only counted. A label that is not among the smallest of one shard is not
    among the smallest of all, so that merging is associative, commutative, and equals one pass
    (counts exactly, sums up to float64 rounding). A caller that wants the frequent labels
    kept numbers them by falling frequency.

    Memory: 8 (d + 2) bytes for each label kept.

    Attributes:
        d: Width of a row.
        labels: Labels kept, shape ``(l,)``, int64, ascending.
        rows: Rows of each, ``(l,)``, int64.
        sums: Sums of their rows scaled to length 1, ``(l, d)``, float64.
        other_rows: Rows of labels that are not kept.
        dropped: Rows left out because a number was not finite.
        max_labels: Most labels kept.
    """

    d: int
    labels: CountArray
    rows: CountArray
    sums: FloatArray
    other_rows: int = 0
    dropped: int = 0
    max_labels: int = MAX_LABELS

    def __post_init__(self) -> None:
        """Bring labels into canonical form: ascending, once each, at most ``max_labels``.

        Raises:
            ValueError: If shapes disagree or ``max_labels`` is negative.
        """
        labels, rows = counted_labels(self.labels, self.rows, self.max_labels)
        sums = np.asarray(self.sums, np.float64)
        if sums.shape != (labels.size, self.d):
            raise ValueError(f"sums: expected ({labels.size}, {self.d}), got {sums.shape}")
        labels, rows, sums = summed_by_label(labels, rows, sums)
        rest = rows[self.max_labels :]
        object.__setattr__(self, "labels", labels[: self.max_labels])
        object.__setattr__(self, "rows", rows[: self.max_labels])
        object.__setattr__(self, "sums", sums[: self.max_labels])
        object.__setattr__(self, "other_rows", int(self.other_rows + rest.sum()))

    @classmethod
    def zero(cls, d: int, *, max_labels: int = MAX_LABELS) -> ClassSums:
        """Return the sums of no rows: the identity of `merge`."""
        none = np.zeros(0, np.int64)
        return cls(d, none, none, np.zeros((0, d)), max_labels=max_labels)

    @classmethod
    def of_rows(
        cls,
        x: npt.NDArray[Any],
        labels: npt.NDArray[Any],
        *,
        max_labels: int = MAX_LABELS,
    ) -> ClassSums:
        """Sum rows; cost O(n d + n ln n), float64. A row of zeros counts, but adds nothing.

        Args:
            x: Rows, shape ``(n, d)``.
            labels: Labels, ``(n,)``, integers.
            max_labels: Most labels kept.

        Raises:
            ValueError: If shapes do not fit.
        """
        if x.ndim != 2 or labels.shape != x.shape[:1]:
            raise ValueError(f"x, labels: expected (n, d), (n,), got {x.shape}, {labels.shape}")
        finite = np.isfinite(x).all(-1)
        unit = unit_rows(x[finite])
        held = np.asarray(labels, np.int64)[finite]
        ones = np.ones(held.size, np.int64)
        dropped = int(finite.size - finite.sum())
        return cls(x.shape[1], held, ones, unit, 0, dropped, max_labels)

    @property
    def n(self) -> int:
        """Rows counted, without those dropped."""
        return int(self.rows.sum()) + self.other_rows

    def centroids(self) -> FloatArray:
        """Return the mean direction of every label kept, ``(l, d)``; its length is at most 1."""
        means: FloatArray = self.sums / np.maximum(self.rows, 1)[:, None]
        return means

    def merge(self, other: ClassSums) -> ClassSums:
        """Return what `of_rows` gives for both sets of rows together.

        Raises:
            ValueError: If widths or ``max_labels`` differ.
        """
        mine, theirs = (self.d, self.max_labels), (other.d, other.max_labels)
        if mine != theirs:
            raise ValueError(f"d, max_labels: cannot merge {mine} and {theirs}")
        return ClassSums(
            self.d,
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.sums, other.sums]),
            self.other_rows + other.other_rows,
            self.dropped + other.dropped,
            self.max_labels,
        )

    __add__ = merge


def unit_rows(x: npt.NDArray[Any]) -> FloatArray:
    """Return rows ``(n, d)`` scaled to length 1, rows of zeros as they are; float64."""
    rows = np.asarray(x, dtype=np.float64)
    # Division by the largest entry first: squares of large entries overflow.
    rows = rows / np.maximum(np.abs(rows).max(-1, keepdims=True, initial=0.0), 1e-300)
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: FloatArray = rows / np.maximum(length, 1e-300)
    return unit
