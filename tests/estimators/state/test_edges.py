"""Multisets of comparisons: canonical form and merge laws."""

from __future__ import annotations

from functools import reduce

import numpy as np
import numpy.typing as npt
import pytest

from infoplane.estimators.state import EdgeMultiset

Index = npt.NDArray[np.int64]


def same_edges(a: EdgeMultiset, b: EdgeMultiset, *, exact: bool = True) -> None:
    for name in ("low", "high", "count", "wins"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    tolerance = 0.0 if exact else 1e-10
    np.testing.assert_allclose(a.weight, b.weight, rtol=tolerance, atol=0)
    assert a.dropped == b.dropped


class Labels:
    """Random comparisons; few responses, so that pairs repeat and some are of one response."""

    def __init__(self, seed: int, m: int = 400, *, odd_weights: bool = False) -> None:
        generator = np.random.default_rng([seed, 5])
        ids = generator.integers(0, 2**64, size=25, dtype=np.uint64)
        self.winner, self.loser = ids[generator.integers(0, 25, (2, m))]
        self.weight = generator.random(m) if odd_weights else generator.integers(1, 9, m) / 4.0

    def edges(self, rows: Index | slice = slice(None)) -> EdgeMultiset:
        return EdgeMultiset.of_comparisons(self.winner[rows], self.loser[rows], self.weight[rows])


def shards_of(seed: int, n: int) -> list[Index]:
    """Return up to 16 index sets and an empty one, in permuted order."""
    generator = np.random.default_rng([seed, 2])
    count = int(generator.integers(1, 17))
    owner = generator.integers(0, count, size=n)
    shards = [generator.permutation(np.flatnonzero(owner == i)) for i in range(count)]
    shards.append(np.zeros(0, dtype=np.int64))
    return [shards[i] for i in generator.permutation(len(shards))]


def test_pairs_are_unordered_sorted_and_counted() -> None:
    top = 2**64 - 1
    found = EdgeMultiset.of_comparisons(
        np.array([9, 2, 9, 2, top, 5], np.uint64), np.array([2, 9, 2, 5, 2, 5], np.uint64)
    )
    assert found.low.tolist() == [2, 2, 2]
    assert found.high.tolist() == [5, 9, top]
    assert found.count.tolist() == [1, 3, 1]
    assert found.wins.tolist() == [1, 1, 0]
    assert found.weight.tolist() == [1.0, 3.0, 1.0]
    assert (len(found), found.comparisons, found.dropped) == (3, 5, 1)


def test_comparisons_that_say_nothing_are_dropped_and_counted() -> None:
    found = EdgeMultiset.of_comparisons(
        np.array([1, 1, 1, 1, 7]),
        np.array([2, 2, 2, 2, 7]),
        np.array([0.0, -1.0, np.nan, 2.0, 1.0]),
    )
    assert (found.comparisons, found.dropped, found.weight.tolist()) == (1, 4, [2.0])


@pytest.mark.parametrize("seed", range(64))
def test_any_split_equals_the_single_pass(seed: int) -> None:
    shards = shards_of(seed, 400)
    for odd_weights in (False, True):
        labels = Labels(seed, odd_weights=odd_weights)
        merged = reduce(EdgeMultiset.merge, map(labels.edges, shards), EdgeMultiset.empty())
        same_edges(merged, labels.edges(), exact=not odd_weights)


def test_monoid_laws_hold_exactly() -> None:
    a, b, c = (Labels(0).edges(rows) for rows in (slice(0, 150), slice(100, 300), slice(250, 400)))
    same_edges((a + b) + c, a + (b + c))
    same_edges(a + b, b + a)
    same_edges(a + EdgeMultiset.empty(), a)
    same_edges(EdgeMultiset.empty() + a, a)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="equal shapes"):
        EdgeMultiset.of_comparisons(np.zeros(2), np.zeros(3))
    one, count = np.ones(1, np.uint64), np.ones(1, np.int64)
    with pytest.raises(ValueError, match="below"):
        EdgeMultiset(one, one, count, count, np.ones(1))
    with pytest.raises(ValueError, match="equal shapes"):
        EdgeMultiset(one, one + one, count, count, np.ones(2))
