"""Union of coordinated row samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoplane.collector.assemble.strata import INCLUSION, second_hash

Keys = NDArray[np.uint64]
Columns = Mapping[str, NDArray[Any]]


@dataclass(slots=True)
class RowMerge:
    """Union of rows; the `keep` smallest keys stay, whatever the order of arrival.

    Of rows with strata (`infoplane.collector.assemble.strata`), those stay whose keys have the smallest second hash.
    Keys of one rank and step are unique, so no look for duplicates is needed: a window takes a
    (sender, step) pair once.
    """

    keep: int
    keys: list[Keys] = field(default_factory=list)
    columns: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    size: int = 0

    def agrees_with(self, columns: Columns) -> bool:
        """Whether rows with these columns can be added."""
        return not self.keys or {
            name: (values.dtype, values.shape[1:]) for name, values in columns.items()
        } == {name: (parts[0].dtype, parts[0].shape[1:]) for name, parts in self.columns.items()}

    def add(self, keys: Keys, columns: Columns) -> None:
        """Add rows that `agrees_with` these."""
        self.keys.append(keys)
        for name, values in columns.items():
            self.columns.setdefault(name, []).append(values)
        self.size += len(keys)
        # Cutting at twice the target keeps memory bounded at amortised O(log n) a row.
        if self.size > 2 * self.keep:
            self.settle()

    def settle(self) -> tuple[Keys, dict[str, NDArray[Any]]]:
        """Return keys (ascending) and columns of the kept rows."""
        if not self.keys:
            return np.zeros(0, np.uint64), {}
        keys = np.concatenate(self.keys)
        if INCLUSION in self.columns and len(keys) > self.keep:
            kept = np.argsort(second_hash(keys), kind="stable")[: self.keep]
            order = kept[np.argsort(keys[kept], kind="stable")]
        else:
            order = np.argsort(keys, kind="stable")[: self.keep]
        merged = {name: np.concatenate(parts)[order] for name, parts in self.columns.items()}
        self.keys = [keys[order]]
        self.columns = {name: [values] for name, values in merged.items()}
        self.size = len(order)
        return self.keys[0], merged
