"""Merging the sketches of one tap: exact sums, exact histograms, a union of rows.

Sums are float64 and counts are integers, so order changes nothing but the last bits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from infoplane.collector.assemble.partial import PartialRows
from infoplane.collector.assemble.rows import Columns, Keys, RowMerge
from infoplane.collector.assemble.summaries import (
    SummaryMerge,
    read_summaries,
    write_summaries,
)
from infoplane.wire import DecodeError, from_tensor, to_tensor
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.histograms import from_histogram, to_histogram

Floats = NDArray[np.float64]
MAX_PARTS = 1024


@dataclass(slots=True)
class HistogramMerge:
    """Sum of log-bucket counts."""

    is_signed: bool
    counts: NDArray[np.int64]
    nonfinite: int = 0

    @classmethod
    def of(cls, message: pb.Histogram) -> HistogramMerge:
        """Begin with one histogram."""
        return cls(message.is_signed, from_histogram(message), message.nonfinite)

    def add(self, other: HistogramMerge) -> None:
        """Add another histogram of the same layout."""
        self.counts += other.counts
        self.nonfinite += other.nonfinite

    def message(self) -> pb.Histogram:
        """Return the wire form."""
        return to_histogram(self.counts, self.nonfinite, is_signed=self.is_signed)


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
    partial: PartialRows | None = None
    summaries: dict[str, SummaryMerge] = field(default_factory=dict)

    @classmethod
    def of(
        cls, tap: pb.TapSketch, keys: Keys, keep: int, strata: Columns | None = None
    ) -> TapMerge:
        """Begin with one sketch; `strata` are the columns of its rows besides, see `strata`.

        Raises:
            DecodeError: shapes contradict each other.
        """
        r = tap.moments.total.shape[0] if tap.moments.total.shape else 0
        total = from_tensor(tap.moments.total, shape=(r,)) if r else np.zeros(0)
        outer = from_tensor(tap.moments.outer, shape=(r * (r + 1) // 2,)) if r else np.zeros(0)
        rows = RowMerge(keep)
        if tap.HasField("rows") and not tap.rows.parts:
            rows.add(keys, {**_row_columns(tap.rows, len(keys)), **(strata or {})})
        elif strata and tap.rows.parts:
            raise DecodeError("content", "rows in parts are not chosen by novelty")
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
            partial=_partial(tap.rows, keys, keep) if tap.rows.parts else None,
            summaries=read_summaries(tap.summaries),
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
            and _both_agree(self.partial, other.partial)
            and all(
                self.summaries[name].agrees_with(summary)
                for name, summary in other.summaries.items()
                if name in self.summaries
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
        if self.partial is not None and other.partial is not None:
            self.partial.merge(other.partial)
        for name, summary in other.summaries.items():
            mine = self.summaries.get(name)
            if mine is None:
                self.summaries[name] = summary
            else:
                mine.add(summary)

    def message(self, name: str, *, is_dump: bool = False) -> tuple[pb.TapSketch, Keys]:
        """Return the wire form and the keys of its rows; a dump keeps rows that wait for their other parts."""
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
        tap.summaries.extend(write_summaries(self.summaries))
        if self.partial is not None and is_dump:
            return tap, _dump_partial(self.partial, tap.rows)
        keys, columns = self.partial.whole() if self.partial else self.rows.settle()
        if columns:
            tap.rows.scaled.CopyFrom(to_tensor(columns["scaled"]))
            tap.rows.scale.CopyFrom(to_tensor(columns["scale"]))
        return tap, keys


def _partial(rows: pb.Rows, keys: Keys, keep: int) -> PartialRows:
    found = PartialRows(rows.parts, keep)
    values = from_tensor(rows.partial, shape=(len(keys), None))
    seen = from_tensor(rows.seen, shape=(len(keys),)) if rows.HasField("seen") else None
    if values.dtype.kind != "f" or rows.parts > MAX_PARTS:
        raise DecodeError("content", f"{rows.parts} parts of rows of {values.dtype}")
    found.add(keys, values, seen)
    return found


def _dump_partial(partial: PartialRows, rows: pb.Rows) -> Keys:
    keys, values, seen = partial.settle()
    rows.parts = partial.parts
    rows.partial.CopyFrom(to_tensor(values))
    rows.seen.CopyFrom(to_tensor(seen))
    return keys


def _both_agree(a: PartialRows | None, b: PartialRows | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.agrees_with(b)


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
