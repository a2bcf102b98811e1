"""Union of reward events by id."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoplane.wire import DecodeError, from_tensor, to_tensor
from infoplane.wire import infoplane_pb2 as pb

MAX_EVENTS = 16_384  # of one window; beyond it those with the smallest ids stay
MAX_COLUMNS = 32
PART_BYTES = 400_000
# Whence a row came: breaks ties between rows of one id. Internal, never published.
STEP, RANK = "_step", "_rank"
Columns = dict[str, NDArray[Any]]


@dataclass(slots=True)
class EventTable:
    """Rows of one window, one an id. Order of arrival and repetition change nothing.

    Of several rows with one id that of the smallest (step, rank, bytes) stays. The `keep` smallest ids stay; as ids
    are hashes, that is a sample which every reader of the same events draws alike.
    """

    kind: str
    keep: int = MAX_EVENTS
    chunks: list[tuple[NDArray[np.uint64], Columns]] = field(default_factory=list)
    size: int = 0

    @classmethod
    def of(cls, table: pb.EventTable, step: int, rank: int) -> EventTable:
        """Parse what one rank observed in one call.

        Raises:
            DecodeError: shapes contradict each other.
        """
        ids, columns = read_table(table)
        columns[STEP] = np.full(len(ids), step, np.uint64)
        columns[RANK] = np.full(len(ids), rank, np.uint64)
        return cls(table.kind, MAX_EVENTS, [(ids, columns)], len(ids))

    def agrees_with(self, other: EventTable) -> bool:
        """Same kind, same columns."""
        return self.kind == other.kind and (
            not self.chunks or not other.chunks or _shapes(self) == _shapes(other)
        )

    def add(self, other: EventTable) -> None:
        """Add a table that `agrees_with` this one."""
        self.chunks += other.chunks
        self.size += other.size
        if self.size > 2 * self.keep:
            self.settle()

    def settle(self) -> tuple[NDArray[np.uint64], Columns]:
        """Return ids `(m,)`, ascending and unique, and columns."""
        if not self.chunks:
            return np.zeros(0, np.uint64), {}
        ids = np.concatenate([chunk[0] for chunk in self.chunks])
        columns = {
            name: np.concatenate([chunk[1][name] for chunk in self.chunks])
            for name in self.chunks[0][1]
        }
        order = np.lexsort((columns[RANK], columns[STEP], ids))
        order = order[_first_of_each(ids, columns, order)][: self.keep]
        kept = {name: values[order] for name, values in columns.items()}
        self.chunks = [(ids[order], kept)]
        self.size = len(order)
        return self.chunks[0]

    def parts(self) -> Iterator[pb.EventTable]:
        """Yield messages of at most about 400 KB, in the order of ids; at least one."""
        ids, columns = self.settle()
        shown = {name: columns[name] for name in sorted(columns) if name not in (STEP, RANK)}
        yield from split_table(self.kind, ids, shown)

    def dump(self) -> Iterator[pb.EventTable]:
        """Yield messages from which `load` makes this table again."""
        yield from split_table(self.kind, *self.settle())

    @classmethod
    def load(cls, tables: list[pb.EventTable]) -> EventTable:
        """Return the table that `dump` wrote; at least one part. Raises DecodeError."""
        chunks = [read_table(table) for table in tables]
        return cls(tables[0].kind, MAX_EVENTS, chunks, sum(len(ids) for ids, _ in chunks))


def read_table(table: pb.EventTable) -> tuple[NDArray[np.uint64], Columns]:
    """Return ids `(m,)` and columns `(m,)` or `(m, k)`.

    Raises:
        DecodeError: lengths or dtypes contradict each other.
    """
    ids = from_tensor(table.ids, shape=(None,))
    if ids.dtype != np.uint64:
        raise DecodeError("content", f"event ids of {ids.dtype}")
    if len(table.columns) > MAX_COLUMNS:
        raise DecodeError("content", f"{len(table.columns)} columns")
    columns: Columns = {}
    for column in table.columns:
        values = from_tensor(column.values)
        if values.ndim not in (1, 2) or len(values) != len(ids) or column.name in columns:
            raise DecodeError("content", f"column {column.name[:32]} {values.shape}")
        columns[column.name] = values
    return ids, columns


def split_table(
    kind: str, ids: NDArray[np.uint64], columns: Columns, part_bytes: int = PART_BYTES
) -> Iterator[pb.EventTable]:
    """Yield the rows as messages of at most about `part_bytes`; one without rows if there are none."""
    row_bytes = 8 + sum(v.dtype.itemsize * int(np.prod(v.shape[1:])) for v in columns.values())
    rows = max(1, part_bytes // row_bytes)
    for start in range(0, max(1, len(ids)), rows):
        stop = start + rows
        yield pb.EventTable(
            kind=kind,
            ids=to_tensor(ids[start:stop]),
            columns=[
                pb.Column(name=name, values=to_tensor(np.ascontiguousarray(values[start:stop])))
                for name, values in columns.items()
            ],
        )


def _shapes(table: EventTable) -> dict[str, tuple[Any, ...]]:
    return {name: (v.dtype, v.shape[1:]) for name, v in table.chunks[0][1].items()}


def _first_of_each(
    ids: NDArray[np.uint64], columns: Columns, order: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return places in `order` (sorted by id, step, rank) of the row to keep of every id."""
    ordered = ids[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ids) else ids[:0]
    first = starts.astype(np.intp)
    step, rank = columns[STEP][order], columns[RANK][order]
    ends = np.r_[first[1:], len(ids)]
    for place in np.flatnonzero(ends - first > 1):
        begin, end = first[place], ends[place]
        same = (step[begin:end] == step[begin]) & (rank[begin:end] == rank[begin])
        rivals = begin + np.flatnonzero(same)
        if len(rivals) > 1:  # one rank says two things of one event: any fixed choice will do
            first[place] = min(rivals, key=lambda at: _row_bytes(columns, int(order[at])))
    return first


def _row_bytes(columns: Columns, row: int) -> bytes:
    return b"".join(columns[name][row].tobytes() for name in sorted(columns))
