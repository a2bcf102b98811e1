"""Histogram on a logarithmic grid: fixed layout, so that histograms of any source merge.

Layout. A magnitude m in [2^-24, 2^24) falls into bucket

    b(m) = floor(8 log2 m) + 192          (0 .. 383; larger m is clipped to 383)

whose lower edge is 2^((b - 192) / 8). A magnitude below 2^-24 counts as zero. The index is

    signed:    384 + sign(x) (b(|x|) + 1)      zero bucket 384, 769 buckets in all
    unsigned:  b(|x|) + 1                      zero bucket 0,   385 buckets in all

Non-finite values have no bucket and are counted apart. Powers of two are exact in any
precision; another implementation of the formula that takes log2 in float32 may put a value
within 2e-6 (relative) of an edge into the neighbouring bucket.

Buckets are 2^(1/8) = 1.0905 wide: a value taken at its bucket's geometric middle is within
4.5 %.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BUCKETS_PER_OCTAVE = 8
MIN_EXPONENT = -24
MAX_EXPONENT = 24
BUCKETS_PER_SIGN = BUCKETS_PER_OCTAVE * (MAX_EXPONENT - MIN_EXPONENT)
NONFINITE_INDEX = -1
"""Index that `LogBuckets.bucket_index` gives to NaN and infinities."""


@dataclass(frozen=True, slots=True)
class LogBuckets:
    """The bucket layout.

    Attributes:
        signed: With negative buckets (activations), or without (norms).
    """

    signed: bool = True

    @property
    def size(self) -> int:
        """Number of buckets."""
        return 2 * BUCKETS_PER_SIGN + 1 if self.signed else BUCKETS_PER_SIGN + 1

    @property
    def zero_index(self) -> int:
        """Index of the zero bucket."""
        return BUCKETS_PER_SIGN if self.signed else 0

    def edges(self) -> npt.NDArray[np.float64]:
        """Return the ``size + 1`` bucket edges in ascending order.

        The zero bucket lies between -2^-24 and 2^-24 (signed) or 0 and 2^-24 (unsigned).
        """
        exponents = np.arange(BUCKETS_PER_SIGN + 1) / BUCKETS_PER_OCTAVE + MIN_EXPONENT
        magnitudes = np.exp2(exponents)
        left = -magnitudes[::-1] if self.signed else np.zeros(1)
        return np.concatenate([left, magnitudes])

    def bucket_index(self, x: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the bucket of every value, same shape as ``x``, -1 for non-finite values.

        Unsigned layouts take the magnitude.
        """
        value = np.asarray(x, dtype=np.float64)
        finite = np.isfinite(value)
        magnitude = np.abs(np.where(finite, value, 0.0))
        is_zero = magnitude < 2.0**MIN_EXPONENT
        raw = np.floor(np.log2(np.where(is_zero, 1.0, magnitude)) * BUCKETS_PER_OCTAVE)
        bucket = raw.astype(np.int64) - MIN_EXPONENT * BUCKETS_PER_OCTAVE
        step = np.where(is_zero, 0, np.clip(bucket, 0, BUCKETS_PER_SIGN - 1) + 1)
        if self.signed:
            step = np.where(np.signbit(value), -step, step)
        return np.where(finite, self.zero_index + step, NONFINITE_INDEX)


@dataclass(frozen=True, slots=True, eq=False)
class LogHistogram:
    """Counts on the grid of `LogBuckets`; merging adds counts and is exact.

    Attributes:
        counts: Shape ``(size,)``, int64.
        nonfinite: Values that were NaN or infinite.
        signed: Which layout the counts follow.
    """

    counts: npt.NDArray[np.int64]
    nonfinite: int = 0
    signed: bool = True

    def __post_init__(self) -> None:
        """Check the shape.

        Raises:
            ValueError: If ``counts`` does not fit the layout.
        """
        object.__setattr__(self, "counts", np.asarray(self.counts, dtype=np.int64))
        if self.counts.shape != (self.buckets.size,):
            raise ValueError(
                f"counts: expected shape ({self.buckets.size},), got {self.counts.shape}"
            )

    @classmethod
    def empty(cls, *, signed: bool = True) -> LogHistogram:
        """Return the histogram of no values: the identity of `merge`."""
        return cls(np.zeros(LogBuckets(signed).size, dtype=np.int64), 0, signed)

    @classmethod
    def of_values(cls, x: npt.NDArray[Any], *, signed: bool = True) -> LogHistogram:
        """Return the histogram of all elements of ``x`` (any shape)."""
        buckets = LogBuckets(signed)
        index = buckets.bucket_index(x).ravel()
        held = index[index != NONFINITE_INDEX]
        counts = np.bincount(held, minlength=buckets.size).astype(np.int64)
        return cls(counts, int(index.size - held.size), signed)

    @property
    def buckets(self) -> LogBuckets:
        """The layout."""
        return LogBuckets(self.signed)

    @property
    def total(self) -> int:
        """Number of finite values."""
        return int(self.counts.sum())

    @property
    def zero_count(self) -> int:
        """Number of values with magnitude below 2^-24."""
        return int(self.counts[self.buckets.zero_index])

    def merge(self, other: LogHistogram) -> LogHistogram:
        """Return the histogram of both sets of values.

        Raises:
            ValueError: If one is signed and the other is not.
        """
        if self.signed != other.signed:
            raise ValueError("signed: cannot merge a signed and an unsigned histogram")
        return LogHistogram(
            self.counts + other.counts, self.nonfinite + other.nonfinite, self.signed
        )

    __add__ = merge

    def quantile(self, q: float) -> float:
        """Return the q-quantile of the finite values, NaN when there are none.

        Within a bucket the value is interpolated evenly in log magnitude, so it is off by at
        most one bucket width (9.05 %). The zero bucket answers 0.

        Raises:
            ValueError: If ``q`` is outside 0..1.
        """
        if not 0.0 <= q <= 1.0:
            raise ValueError(f"q: expected 0 <= q <= 1, got {q}")
        if self.total == 0:
            return float("nan")
        below = np.concatenate([[0], np.cumsum(self.counts)])
        rank = q * self.total
        # The first bucket whose upper count reaches the rank and that holds anything.
        index = int(np.flatnonzero((below[1:] >= rank) & (self.counts > 0))[0])
        if index == self.buckets.zero_index:
            return 0.0
        share = (rank - float(below[index])) / float(self.counts[index])
        low, high = self.buckets.edges()[index : index + 2]
        sign = 1.0 if low > 0 else -1.0
        return float(sign * abs(low) ** (1.0 - share) * abs(high) ** share)
