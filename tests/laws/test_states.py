"""Merge laws: any split over any shards in any order equals the single pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from infoplane.estimators.state import LogHistogram, Moments, RowSample

D = 7
SPLITS = 64


def rows(seed: int, n: int = 400) -> npt.NDArray[np.float32]:
    """Return rows with zeros, a mean and unequal scales."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, D)) * np.exp2(generator.integers(-12, 12, size=D)) + 0.5
    x[generator.random((n, D)) < 0.1] = 0.0
    return x.astype(np.float32)


def keys_of(seed: int, n: int) -> npt.NDArray[np.uint64]:
    """Return distinct keys."""
    generator = np.random.default_rng([seed, 1])
    return generator.choice(2**62, size=n, replace=False).astype(np.uint64)


def sample(x: npt.NDArray[np.float32], keys: npt.NDArray[np.uint64]) -> RowSample:
    """Return a row sample with one column."""
    return RowSample(keys, x, {"label": (keys % np.uint64(5)).astype(np.int64)})


def same_moments(a: Moments, b: Moments) -> None:
    """Compare to 1e-10, relative to the largest entry."""
    assert a.n == b.n
    for left, right in ((a.total, b.total), (a.outer, b.outer)):
        scale = max(1.0, float(np.abs(right).max()))
        np.testing.assert_allclose(left / scale, right / scale, rtol=0, atol=1e-10)


def same_histogram(a: LogHistogram, b: LogHistogram) -> None:
    """Compare exactly."""
    np.testing.assert_array_equal(a.counts, b.counts)
    assert a.nonfinite == b.nonfinite


def same_rows(a: RowSample, b: RowSample) -> None:
    """Compare exactly."""
    np.testing.assert_array_equal(a.keys, b.keys)
    np.testing.assert_array_equal(a.values, b.values)
    assert a.columns.keys() == b.columns.keys()
    for name in a.columns:
        np.testing.assert_array_equal(a.columns[name], b.columns[name])


def shards_of(seed: int, n: int) -> list[npt.NDArray[np.int64]]:
    """Return up to 16 index sets, some empty, in permuted order."""
    generator = np.random.default_rng([seed, 2])
    count = int(generator.integers(1, 17))
    owner = generator.integers(0, count + 1, size=n)
    shards = [np.flatnonzero(owner == i) for i in range(count + 1)]
    shards.append(np.zeros(0, dtype=np.int64))
    return [shards[i] for i in generator.permutation(len(shards))]


@pytest.mark.parametrize("seed", range(SPLITS))
def test_any_split_equals_the_single_pass(seed: int) -> None:
    """Merged shards give what one pass over all rows gives."""
    x = rows(seed)
    x_odd = x.copy()
    x_odd[0, 0], x_odd[1, 1] = np.nan, np.inf
    keys = keys_of(seed, len(x))
    shards = shards_of(seed, len(x))
    same_moments(
        reduce(Moments.merge, [Moments.of_rows(x[s]) for s in shards], Moments.zero(D)),
        Moments.of_rows(x),
    )
    same_histogram(
        reduce(
            LogHistogram.merge,
            [LogHistogram.of_values(x_odd[s]) for s in shards],
            LogHistogram.empty(),
        ),
        LogHistogram.of_values(x_odd),
    )
    same_rows(
        reduce(RowSample.merge, [sample(x[s], keys[s]) for s in shards], RowSample.empty(D)),
        sample(x, keys),
    )


@pytest.mark.parametrize("seed", range(8))
def test_bottom_k_of_shards_equals_bottom_k_of_all(seed: int) -> None:
    """Cutting shards to their k smallest keys first does not change the k smallest."""
    x, keys = rows(seed), keys_of(seed, 400)
    shards = [sample(x[s], keys[s]).smallest(50) for s in shards_of(seed, 400)]
    same_rows(
        reduce(RowSample.merge, shards, RowSample.empty(D)).smallest(50),
        sample(x, keys).smallest(50),
    )


def _moments(seed: int) -> Moments:
    return Moments.of_rows(rows(seed, 50))


def _histogram(seed: int) -> LogHistogram:
    return LogHistogram.of_values(rows(seed, 50))


def _rows(seed: int) -> RowSample:
    # Keys of neighbouring seeds overlap, and the rows behind them differ.
    x = rows(seed, 50)
    return sample(x, np.arange(seed * 30, seed * 30 + 50, dtype=np.uint64))


@pytest.mark.parametrize(
    ("make", "same", "identity"),
    [
        (_moments, same_moments, Moments.zero(D)),
        (_histogram, same_histogram, LogHistogram.empty()),
        (_rows, same_rows, RowSample.empty(D)),
    ],
    ids=["moments", "histogram", "rows"],
)
def test_monoid_laws(
    make: Callable[[int], Any], same: Callable[[Any, Any], None], identity: Any
) -> None:
    """Merging is associative and commutative and has an identity."""
    a, b, c = make(0), make(1), make(2)
    same((a + b) + c, a + (b + c))
    same(a + b, b + a)
    same(a + identity, a)
    same(identity + a, a)


def test_union_of_rows_is_idempotent() -> None:
    """Merging a sample with itself, or with what it has seen, changes nothing."""
    a, b = _rows(0), _rows(1)
    same_rows(a + a, a)
    same_rows((a + b) + b, a + b)
