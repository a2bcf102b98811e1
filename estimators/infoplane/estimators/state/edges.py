"""Comparisons of responses as a mergeable multiset of edges.

Sufficient for every statistic of the induced Bayesian network that needs no rewards (Qiu et al.,
"Reward Generalization in RLHF: A Topological Perspective": E_HP, the edges of human preference).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IdArray = npt.NDArray[np.uint64]
CountArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class EdgeMultiset:
    """Comparisons counted by unordered pair of 64-bit response ids, sorted by pair.

    `merge` is the union that adds. It is commutative and associative and equals one pass over
    all comparisons: exactly for counts, and for weights that are multiples of a power of two
    (1 by default); up to float64 rounding (1e-15 relative) for others. Memory: 40 bytes a pair.

    Attributes:
        low: Smaller id of the pair, shape ``(e,)``, uint64, ascending.
        high: Larger id, ``(e,)``, uint64, ascending within equal ``low``.
        count: Comparisons of the pair, ``(e,)``, int64.
        wins: Comparisons that ``low`` won, ``(e,)``, int64.
        weight: Sum of the comparisons' weights, ``(e,)``, float64.
        dropped: Comparisons left out: of a response with itself, or without a positive weight.
    """

    low: IdArray
    high: IdArray
    count: CountArray
    wins: CountArray
    weight: FloatArray
    dropped: int = 0

    def __post_init__(self) -> None:
        """Bring the edges into canonical form.

        Raises:
            ValueError: If shapes disagree or a ``low`` is not below its ``high``.
        """
        low, high = np.asarray(self.low, np.uint64), np.asarray(self.high, np.uint64)
        values = [
            np.asarray(self.count, np.int64),
            np.asarray(self.wins, np.int64),
            np.asarray(self.weight, np.float64),
        ]
        if low.ndim != 1 or any(one.shape != low.shape for one in (high, *values)):
            raise ValueError(
                f"edges: expected equal shapes (e,), got "
                f"{[one.shape for one in (low, high, *values)]}"
            )
        if np.any(low >= high):
            raise ValueError("low: expected ids below those in high")
        if np.any((low[1:] < low[:-1]) | ((low[1:] == low[:-1]) & (high[1:] <= high[:-1]))):
            low, high, values = _summed_by_pair(low, high, values)
        for name, one in zip(
            ("low", "high", "count", "wins", "weight"), (low, high, *values), strict=True
        ):
            object.__setattr__(self, name, one)

    @classmethod
    def empty(cls) -> EdgeMultiset:
        """Return the multiset of no comparisons: the identity of `merge`."""
        ids, counts = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        return cls(ids, ids, counts, counts, np.zeros(0))

    @classmethod
    def of_comparisons(
        cls,
        winner: npt.NDArray[Any],
        loser: npt.NDArray[Any],
        weight: npt.NDArray[Any] | None = None,
    ) -> EdgeMultiset:
        """Count comparisons; cost O(m log m).

        Args:
            winner: Ids of the preferred responses, shape ``(m,)``, uint64.
            loser: Ids of the others, ``(m,)``.
            weight: Weights, ``(m,)``; 1 each when None.

        Raises:
            ValueError: If shapes disagree.
        """
        first, second = np.asarray(winner, np.uint64), np.asarray(loser, np.uint64)
        w = np.ones(first.shape) if weight is None else np.asarray(weight, np.float64)
        if first.ndim != 1 or second.shape != first.shape or w.shape != first.shape:
            raise ValueError(
                f"winner, loser, weight: expected equal shapes (m,), got "
                f"{first.shape}, {second.shape}, {w.shape}"
            )
        kept = (first != second) & np.isfinite(w) & (w > 0)
        first, second, w = first[kept], second[kept], w[kept]
        wins = (first < second).astype(np.int64)
        return cls(
            np.minimum(first, second),
            np.maximum(first, second),
            np.ones(len(w), np.int64),
            wins,
            w,
            dropped=int(kept.size - len(w)),
        )

    def __len__(self) -> int:
        """Return the number of distinct pairs."""
        return int(self.low.shape[0])

    @property
    def comparisons(self) -> int:
        """Number of comparisons held, without those dropped."""
        return int(self.count.sum())

    def merge(self, other: EdgeMultiset) -> EdgeMultiset:
        """Return what `of_comparisons` gives for both sets of comparisons together."""
        return EdgeMultiset(
            np.concatenate([self.low, other.low]),
            np.concatenate([self.high, other.high]),
            np.concatenate([self.count, other.count]),
            np.concatenate([self.wins, other.wins]),
            np.concatenate([self.weight, other.weight]),
            self.dropped + other.dropped,
        )

    __add__ = merge


def _summed_by_pair(
    low: IdArray, high: IdArray, values: list[npt.NDArray[Any]]
) -> tuple[IdArray, IdArray, list[npt.NDArray[Any]]]:
    order = np.lexsort((high, low))
    low, high = low[order], high[order]
    fresh = np.ones(len(low), dtype=bool)
    fresh[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    starts = np.flatnonzero(fresh)
    return low[starts], high[starts], [np.add.reduceat(one[order], starts) for one in values]
