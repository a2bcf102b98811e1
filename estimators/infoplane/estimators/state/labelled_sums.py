"""Sums of rows by label in canonical form: labels ascending, once each. States that keep to it merge in any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

CountArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


def counted_labels(
    labels: npt.NDArray[Any], rows: npt.NDArray[Any], max_labels: int
) -> tuple[CountArray, CountArray]:
    """Return ``labels`` and the number of rows of each, both ``(l,)``, as int64.

    Raises:
        ValueError: If shapes disagree or ``max_labels`` is negative.
    """
    labels, rows = np.asarray(labels, np.int64), np.asarray(rows, np.int64)
    if labels.ndim != 1 or rows.shape != labels.shape or max_labels < 0:
        raise ValueError(
            f"labels, rows, max_labels: expected (l,), (l,), 0 or more, "
            f"got {labels.shape}, {rows.shape}, {max_labels}"
        )
    return labels, rows


def summed_by_label(
    labels: CountArray, rows: CountArray, sums: FloatArray
) -> tuple[CountArray, CountArray, FloatArray]:
    """Return the three with labels ascending and once each; ``sums (l, ...)`` of equal labels are added."""
    if not np.any(labels[1:] <= labels[:-1]):
        return labels, rows, sums
    order = np.argsort(labels, kind="stable")
    labels, starts = np.unique(labels[order], return_index=True)
    return labels, np.add.reduceat(rows[order], starts), np.add.reduceat(sums[order], starts)
