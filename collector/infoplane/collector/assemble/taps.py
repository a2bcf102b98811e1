"""Merging the sketches of one tap: exact sums, exact histograms, a union of rows.

Sums are float64 and counts are integers, so order changes nothing but the last bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infoplane.collector.assemble.rows import Columns, Keys, RowMerge
from infoplane.wire import DecodeError, from_tensor, to_tensor
from infoplane.wire import infoplane_pb2 as pb

Floats = NDArray[np.float64]


@dataclass(slots=True)
class HistogramMerge:
    """Sum of log-bucket counts."""

    is_signed: bool
    counts: NDArray[np.int64]
    nonfinite: int = 0

    @classmethod
    def of(cls, message: pb.Histogram) -> HistogramMerge:
        """Begin with one histogram."""
        counts = from_tensor(message.counts, shape=(None,)).astype(np.int64)
        return cls(message.is_signed, counts, message.nonfinite)

    def add(self, other: HistogramMerge) -> None:
        """Add another histogram of the same layout."""
        self.counts += other.counts
        self.nonfinite += other.nonfinite

    def message(self) -> pb.Histogram:
        """Return the wire form."""
        return pb.Histogram(
            is_signed=self.is_signed, counts=to_tensor(self.counts), nonfinite=self.nonfinite
        )


@dataclass(slots=True)
class TapMerge:
    """One tap of one window."""

    duplicate: bool
    width: int
    n: float
    total: Floats
    outer: Floats
    norms: Floats  # n, sum |x|^2, sum |x|^4
    norm_maximum: float
    nonfinite: int
    norm_histogram: HistogramMerge | None
    elements: HistogramMerge | None
    rows: RowMerge

    @classmethod
    def of(cls, tap: pb.TapSketch, keys: Keys, keep: int) -> TapMerge:
        """Begin with one sketch.

        Raises:
            DecodeError: shapes contradict each other.
        """
        r = tap.moments.total.shape[0] if tap.moments.total.shape else 0
        total = from_tensor(tap.moments.total, shape=(r,)) if r else np.zeros(0)
        outer = from_tensor(tap.moments.outer, shape=(r * (r + 1) // 2,)) if r else np.zeros(0)
        rows = RowMerge(keep)
        if tap.HasField("rows"):
            rows.add(keys, _row_columns(tap.rows, len(keys)))
        return cls(
            duplicate=tap.duplicate,
            width=tap.width,
            n=tap.moments.n,
            total=total.astype(np.float64),
            outer=outer.astype(np.float64),
            norms=np.array([tap.norms.n, tap.norms.sum_square, tap.norms.sum_fourth]),
            norm_maximum=tap.norms.maximum,
            nonfinite=tap.norms.nonfinite,
            norm_histogram=HistogramMerge.of(tap.norm_histogram)
            if tap.HasField("norm_histogram")
            else None,
            elements=HistogramMerge.of(tap.elements) if tap.HasField("elements") else None,
            rows=rows,
        )

    def agrees_with(self, other: TapMerge) -> bool:
        """Whether the two can be added."""
        return (
            self.duplicate == other.duplicate
            and self.width == other.width
            and self.total.shape == other.total.shape
            and _same_layout(self.norm_histogram, other.norm_histogram)
            and _same_layout(self.elements, other.elements)
            and self.rows.agrees_with(
                {name: parts[0] for name, parts in other.rows.columns.items()}
            )
        )

    def add(self, other: TapMerge) -> None:
        """Add another sketch that `agrees_with` this one."""
        self.n += other.n
        self.total += other.total
        self.outer += other.outer
        self.norms += other.norms
        self.norm_maximum = max(self.norm_maximum, other.norm_maximum)
        self.nonfinite += other.nonfinite
        if self.norm_histogram is not None and other.norm_histogram is not None:
            self.norm_histogram.add(other.norm_histogram)
        if self.elements is not None and other.elements is not None:
            self.elements.add(other.elements)
        for place, keys in enumerate(other.rows.keys):
            self.rows.add(keys, {name: parts[place] for name, parts in other.rows.columns.items()})

    def message(self, name: str) -> tuple[pb.TapSketch, Keys]:
        """Return the wire form and the keys of its rows."""
        tap = pb.TapSketch(tap=name, duplicate=self.duplicate, width=self.width)
        if self.total.size:
            tap.moments.n = self.n
            tap.moments.total.CopyFrom(to_tensor(self.total))
            tap.moments.outer.CopyFrom(to_tensor(self.outer))
        tap.norms.n, tap.norms.sum_square, tap.norms.sum_fourth = map(float, self.norms)
        tap.norms.maximum = self.norm_maximum
        tap.norms.nonfinite = self.nonfinite
        if self.norm_histogram is not None:
            tap.norm_histogram.CopyFrom(self.norm_histogram.message())
        if self.elements is not None:
            tap.elements.CopyFrom(self.elements.message())
        keys, columns = self.rows.settle()
        if columns:
            tap.rows.scaled.CopyFrom(to_tensor(columns["scaled"]))
            tap.rows.scale.CopyFrom(to_tensor(columns["scale"]))
        return tap, keys


def _row_columns(rows: pb.Rows, k: int) -> Columns:
    scaled = from_tensor(rows.scaled, shape=(k, None))
    scale = from_tensor(rows.scale, shape=(k,))
    if scaled.dtype != np.float16 or scale.dtype != np.float32:
        raise DecodeError("content", f"rows of {scaled.dtype} and {scale.dtype}")
    return {"scaled": scaled, "scale": scale}


def _same_layout(a: HistogramMerge | None, b: HistogramMerge | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.is_signed == b.is_signed and a.counts.shape == b.counts.shape
