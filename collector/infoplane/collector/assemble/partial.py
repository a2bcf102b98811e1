"""Rows whose ranks each saw some of the columns: equal keys add up, and count once all parts are there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoplane.collector.assemble.rows import Columns, Keys
from infoplane.wire.rows import scaled_rows

# Rows beyond the target that wait for their other parts, so that none is cut before it is whole.
_SLACK = 2


@dataclass(slots=True)
class PartialRows:
    """Parts of rows by key; sums in float64, so that the order of ranks changes the last bits only.

    Attributes:
        parts: contributions that make a row whole.
        keep: the smallest keys stay.
    """

    parts: int
    keep: int
    keys: list[Keys] = field(default_factory=list)
    values: list[NDArray[np.float64]] = field(default_factory=list)
    seen: list[NDArray[np.int32]] = field(default_factory=list)
    size: int = 0

    def agrees_with(self, other: PartialRows) -> bool:
        """Whether the two can be added."""
        width = {values.shape[1] for values in (*self.values, *other.values)}
        return self.parts == other.parts and len(width) <= 1

    def add(self, keys: Keys, values: NDArray[Any], seen: NDArray[np.int32] | None = None) -> None:
        """Add contributions (m, r) of `keys`; `seen` tells how many parts each already holds."""
        self.keys.append(keys)
        self.values.append(values.astype(np.float64))
        self.seen.append(np.ones(len(keys), np.int32) if seen is None else seen.astype(np.int32))
        self.size += len(keys)
        if self.size > 2 * self.parts * _SLACK * self.keep:
            self.settle()

    def merge(self, other: PartialRows) -> None:
        """Add all of another that `agrees_with` this one."""
        for keys, values, seen in zip(other.keys, other.values, other.seen, strict=True):
            self.add(keys, values, seen)

    def settle(self) -> tuple[Keys, NDArray[np.float64], NDArray[np.int32]]:
        """Return keys (m,) ascending, sums (m, r) and parts seen (m,)."""
        if not self.keys:
            return np.zeros(0, np.uint64), np.zeros((0, 0)), np.zeros(0, np.int32)
        keys, place = np.unique(np.concatenate(self.keys), return_inverse=True)
        values = np.concatenate(self.values)
        sums = np.zeros((len(keys), values.shape[1]))
        np.add.at(sums, place, values)
        seen = np.zeros(len(keys), np.int32)
        np.add.at(seen, place, np.concatenate(self.seen))
        limit = _SLACK * self.keep
        self.keys, self.values, self.seen = [keys[:limit]], [sums[:limit]], [seen[:limit]]
        self.size = len(self.keys[0])
        return self.keys[0], self.values[0], self.seen[0]

    def whole(self) -> tuple[Keys, Columns]:
        """Return keys and columns, as in a record, of the `keep` smallest rows that are whole."""
        keys, sums, seen = self.settle()
        chosen = np.flatnonzero(seen >= self.parts)[: self.keep]
        scaled, scale = scaled_rows(sums[chosen])
        return keys[chosen], {"scaled": scaled, "scale": scale}
