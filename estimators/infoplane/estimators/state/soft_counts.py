"""Soft assignments to fixed reference points, counted per label: mergeable, of bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from infoplane.estimators.state.labelled_sums import CountArray, counted_labels, summed_by_label
from infoplane.estimators.state.soft_reference import ROW_BLOCK, FloatArray, SoftReference

MAX_LABELS = 1024


@dataclass(frozen=True, slots=True, eq=False)
class SoftCounts:
    """Sums of soft assignments of rows, for every label.

    At most ``max_labels`` labels have a row of their own: those of smallest value, among all
    labels seen. The others share one bin. A label that is not among the smallest of one shard is
    not among the smallest of all, so that merging is associative, commutative, and equals one
    pass (counts of rows exactly, sums up to float64 rounding). A caller that wants the
    frequent labels kept numbers them by falling frequency.

    Memory: 8 (points + 2) bytes for each label kept.

    Attributes:
        reference: Reference points and temperature.
        labels: Labels kept, shape ``(l,)``, int64, ascending.
        rows: Rows of each, ``(l,)``, int64.
        sums: Sums of their assignments, ``(l, points)``, float64.
        other_rows: Rows of the other labels and without a label.
        other: Sum of their assignments, ``(points,)``, float64.
        row_entropy: Sum over rows of the entropy of their own assignment, nats.
        dropped: Rows left out because a number was not finite.
        max_labels: Most labels kept.
    """

    reference: SoftReference
    labels: CountArray
    rows: CountArray
    sums: FloatArray
    other_rows: int
    other: FloatArray
    row_entropy: float = 0.0
    dropped: int = 0
    max_labels: int = MAX_LABELS

    def __post_init__(self) -> None:
        """Bring labels into canonical form: ascending, one row each, at most ``max_labels``.

        Raises:
            ValueError: If shapes disagree or ``max_labels`` is negative.
        """
        labels, rows = counted_labels(self.labels, self.rows, self.max_labels)
        sums, other = np.asarray(self.sums, np.float64), np.asarray(self.other, np.float64)
        m = self.reference.points
        if sums.shape != (labels.size, m) or other.shape != (m,):
            raise ValueError(
                f"sums, other: expected ({labels.size}, {m}), ({m},), got {sums.shape}, {other.shape}"
            )
        labels, rows, sums = summed_by_label(labels, rows, sums)
        kept = slice(0, self.max_labels)
        rest = slice(self.max_labels, None)
        object.__setattr__(self, "labels", labels[kept])
        object.__setattr__(self, "rows", rows[kept])
        object.__setattr__(self, "sums", sums[kept])
        object.__setattr__(self, "other_rows", int(self.other_rows + rows[rest].sum()))
        object.__setattr__(self, "other", other + sums[rest].sum(0))

    @classmethod
    def zero(cls, reference: SoftReference, *, max_labels: int = MAX_LABELS) -> SoftCounts:
        """Return the counts of no rows: the identity of `merge`."""
        none, m = np.zeros(0, np.int64), reference.points
        return cls(reference, none, none, np.zeros((0, m)), 0, np.zeros(m), max_labels=max_labels)

    @classmethod
    def of_rows(
        cls,
        x: npt.NDArray[Any],
        labels: npt.NDArray[Any] | None = None,
        *,
        reference: SoftReference,
        max_labels: int = MAX_LABELS,
    ) -> SoftCounts:
        """Count rows; cost O(n d points), float64, blocks of 8192 rows.

        Args:
            x: Rows, shape ``(n, d)``.
            labels: Labels, ``(n,)``, integers; without them all rows go to the common bin.
            reference: Reference points of width ``d``.
            max_labels: Most labels kept.

        Raises:
            ValueError: If shapes do not fit.
        """
        if x.ndim != 2 or x.shape[1] != reference.d:
            raise ValueError(f"x: expected shape (n, {reference.d}), got {x.shape}")
        if labels is not None and labels.shape != x.shape[:1]:
            raise ValueError(f"labels: expected shape {x.shape[:1]}, got {labels.shape}")
        counts = cls.zero(reference, max_labels=max_labels)
        for start in range(0, x.shape[0], ROW_BLOCK):
            part = slice(start, start + ROW_BLOCK)
            counts += cls._of_block(x[part], None if labels is None else labels[part], counts)
        return counts

    @classmethod
    def _of_block(
        cls, x: npt.NDArray[Any], labels: npt.NDArray[Any] | None, like: SoftCounts
    ) -> SoftCounts:
        finite = np.isfinite(x).all(-1)
        shares = like.reference.assignments(x[finite])
        entropy = -float((shares * np.log(np.maximum(shares, 1e-300))).sum())
        common = shares if labels is None else shares[:0]
        held = np.zeros(0, np.int64) if labels is None else np.asarray(labels, np.int64)[finite]
        return cls(
            like.reference,
            held,
            np.ones(held.size, np.int64),
            shares[: held.size],
            int(common.shape[0]),
            common.sum(0),
            entropy,
            int(finite.size - finite.sum()),
            like.max_labels,
        )

    @property
    def n(self) -> int:
        """Rows counted, without those dropped."""
        return int(self.rows.sum()) + self.other_rows

    def total(self) -> FloatArray:
        """Return the sum of all rows' assignments, shape ``(points,)``."""
        total: FloatArray = self.sums.sum(0) + self.other
        return total

    def merge(self, other: SoftCounts) -> SoftCounts:
        """Return what `of_rows` gives for both sets of rows together.

        Raises:
            ValueError: If the reference or ``max_labels`` differ.
        """
        mine, theirs = (self.reference, self.max_labels), (other.reference, other.max_labels)
        if mine != theirs:
            raise ValueError(f"reference, max_labels: cannot merge {mine} and {theirs}")
        return SoftCounts(
            self.reference,
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.sums, other.sums]),
            self.other_rows + other.other_rows,
            self.other + other.other,
            self.row_entropy + other.row_entropy,
            self.dropped + other.dropped,
            self.max_labels,
        )

    __add__ = merge
