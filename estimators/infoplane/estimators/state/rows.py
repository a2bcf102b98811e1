"""Sample of rows identified by keys: union merges, small keys are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

KeyArray = npt.NDArray[np.uint64]
IndexArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class RowSample:
    """Rows with unique 64-bit keys, always sorted by key.

    A key names a row, so the same key means the same row; the constructor sorts and drops
    duplicates. Should two rows with one key differ all the same, the one whose bytes compare
    smaller stays, whatever the order of arrival. So `merge` is exactly commutative,
    associative and idempotent, and ``a.merge(b).smallest(k)`` equals
    ``a.smallest(k).merge(b.smallest(k)).smallest(k)``.

    Attributes:
        keys: Shape ``(m,)``, uint64, ascending.
        values: Shape ``(m, d)``, float32.
        columns: Further per-row values by name, each of shape ``(m,)``.
    """

    keys: KeyArray
    values: npt.NDArray[np.float32]
    columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Bring the rows into canonical form.

        Raises:
            ValueError: If shapes disagree.
        """
        keys = np.asarray(self.keys, dtype=np.uint64)
        values = np.asarray(self.values, dtype=np.float32)
        columns = {name: np.asarray(self.columns[name]) for name in sorted(self.columns)}
        if keys.ndim != 1 or values.ndim != 2 or values.shape[0] != keys.shape[0]:
            raise ValueError(
                f"values: expected shape (m, d) for keys of shape (m,), "
                f"got {values.shape} and {keys.shape}"
            )
        for name, column in columns.items():
            if column.shape != keys.shape:
                raise ValueError(f"columns[{name!r}]: expected {keys.shape}, got {column.shape}")
        if np.any(keys[1:] <= keys[:-1]):
            order = _canonical_order(keys, values, columns)
            keys, values = keys[order], values[order]
            columns = {name: column[order] for name, column in columns.items()}
        object.__setattr__(self, "keys", keys)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "columns", columns)

    @classmethod
    def empty(cls, d: int) -> RowSample:
        """Return a sample without rows: the identity of `merge`."""
        return cls(np.zeros(0, dtype=np.uint64), np.zeros((0, d), dtype=np.float32))

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self.keys.shape[0])

    @property
    def d(self) -> int:
        """Width of a row."""
        return int(self.values.shape[1])

    def merge(self, other: RowSample) -> RowSample:
        """Return the union by key.

        Raises:
            ValueError: If the widths differ, or the column names of two non-empty samples.
        """
        if self.d != other.d:
            raise ValueError(f"d: cannot merge rows of width {self.d} and {other.d}")
        if len(other) == 0:
            return self
        if len(self) == 0:
            return other
        if self.columns.keys() != other.columns.keys():
            raise ValueError(
                f"columns: cannot merge {sorted(self.columns)} and {sorted(other.columns)}"
            )
        return RowSample(
            np.concatenate([self.keys, other.keys]),
            np.concatenate([self.values, other.values]),
            {
                name: np.concatenate([column, other.columns[name]])
                for name, column in self.columns.items()
            },
        )

    __add__ = merge

    def take(self, index: npt.NDArray[Any] | slice) -> RowSample:
        """Return the rows at ``index``."""
        columns = {name: column[index] for name, column in self.columns.items()}
        return RowSample(self.keys[index], self.values[index], columns)

    def smallest(self, n: int) -> RowSample:
        """Return the ``n`` rows with the smallest keys, or all when there are fewer."""
        return self.take(slice(0, max(n, 0)))

    def join(self, other: RowSample) -> tuple[IndexArray, IndexArray]:
        """Return positions ``(i, j)`` of the common keys, ascending by key.

        ``self.keys[i]`` equals ``other.keys[j]``. Cost O(m log m).
        """
        _, mine, theirs = np.intersect1d(
            self.keys, other.keys, assume_unique=True, return_indices=True
        )
        return mine.astype(np.int64), theirs.astype(np.int64)


def _canonical_order(
    keys: KeyArray,
    values: npt.NDArray[np.float32],
    columns: Mapping[str, npt.NDArray[Any]],
) -> IndexArray:
    """Return positions that sort by key and keep one row per key."""
    order = np.argsort(keys, kind="stable").astype(np.int64)
    repeats = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    if repeats.size == 0:
        return order

    def content(row: int) -> bytes:
        parts = [values[row].tobytes(), *(bytes(c[row].tobytes()) for c in columns.values())]
        return b"".join(parts)

    # Only repeated keys need their contents looked at; they are few.
    kept = order.tolist()
    dropped: set[int] = set()
    for position in repeats.tolist():
        left, right = kept[position], kept[position + 1]
        if content(right) < content(left):
            kept[position + 1] = right
            dropped.add(position)
        else:
            # Carry the winner on, so that a third copy is compared with it.
            kept[position + 1] = left
            dropped.add(position)
    return np.asarray([row for i, row in enumerate(kept) if i not in dropped], dtype=np.int64)
