"""Entropy of labels, and coarsening of hashed labels to what the rows allow."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

ROWS_PER_CELL = 5
"""Rows wanted for every cell of a class by class table."""


def entropy_of_counts(counts: npt.NDArray[np.generic]) -> float:
    """Return the Miller-Madow entropy of a table of counts in nats.

    The plug-in value plus (occupied cells - 1) / 2n, which removes the bias of first order;
    never more than the logarithm of the number of occupied cells. 0 for an empty table.
    """
    held = np.asarray(counts, dtype=np.float64).ravel()
    held = held[held > 0]
    if held.size == 0:
        return 0.0
    n = float(held.sum())
    plug_in = math.log(n) - float((held * np.log(held)).sum()) / n
    return max(0.0, min(plug_in + (held.size - 1) / (2.0 * n), math.log(held.size)))


def label_entropy(labels: npt.NDArray[np.integer]) -> float:
    """Return the Miller-Madow entropy of ``labels (n,)`` in nats; 0 when there are none."""
    return entropy_of_counts(np.unique(labels, return_counts=True)[1])


def coarsen_labels(
    labels: npt.NDArray[np.integer], *, rows: int | None = None
) -> tuple[npt.NDArray[np.int64], int]:
    """Return the low bits of hashed labels, as many as the rows allow.

    A table of C predicted by C true classes needs n >= 5 C^2 rows. Labels are buckets of a hash,
    so that dropping high bits merges buckets at random and coarse labels nest in fine ones.

    Args:
        labels: Shape ``(n,)``, non-negative.
        rows: Rows to reckon with; n when absent.

    Returns:
        The labels and the number of bits kept: all that are in use when the rows allow it, else
        the largest number with 5 * 4^bits <= n.
    """
    held = np.asarray(labels, dtype=np.int64)
    n = held.size if rows is None else rows
    classes = np.unique(held).size
    bits = max(1, int(held.max()).bit_length()) if held.size else 1
    if n >= ROWS_PER_CELL * classes**2:
        return held, bits
    allowed = max(0, math.floor(math.log(max(n, 1) / ROWS_PER_CELL, 4.0) + 1e-12))
    bits = min(bits, allowed)
    return held & ((1 << bits) - 1), bits


def dense_labels(labels: Tensor) -> tuple[Tensor, list[int]]:
    """Return labels ``(t, n)`` renumbered 0, 1 ... within each item, and the classes each has."""
    renumbered = [torch.unique(item, return_inverse=True)[1] for item in labels]
    return torch.stack(renumbered), [int(item.max()) + 1 for item in renumbered]


def whitened_one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return one-hot rows over the root of their class shares, shape ``(..., n, classes)``.

    The covariance of these columns is a projection, so that correlation analysis of them is
    well conditioned although the columns of a one-hot code sum to 1.

    Args:
        labels: Shape ``(..., n)``, 0 .. classes - 1.
        classes: Number of columns; columns of absent classes are 0.
    """
    one_hot = torch.nn.functional.one_hot(labels, classes).to(torch.float64)
    share = one_hot.mean(-2, keepdim=True)
    return (one_hot - share) / share.clamp(min=1e-300).sqrt() * (share > 0)
