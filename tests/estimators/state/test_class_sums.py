"""Sums of unit rows per label: merge laws, bounded labels, degenerate rows."""

from __future__ import annotations

import numpy as np
import pytest

from infoplane.estimators.state.class_sums import ClassSums, unit_rows

MAX_LABELS = 9


def rows(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Return rows, some of them odd, and labels of which there are more than may be kept."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, 6)) * 10.0 ** generator.integers(-3, 4, (n, 1))
    x[3, 2], x[4], x[5, 0] = np.inf, 0.0, np.nan
    return x, generator.zipf(1.5, n) % 40 - 5


def count(x: np.ndarray, labels: np.ndarray) -> ClassSums:
    """Sum with few labels."""
    return ClassSums.of_rows(x, labels, max_labels=MAX_LABELS)


def same(a: ClassSums, b: ClassSums) -> None:
    """Compare counts exactly, sums to 1e-10."""
    for name in ("labels", "rows"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.other_rows, a.dropped, a.n) == (b.other_rows, b.dropped, b.n)
    np.testing.assert_allclose(a.sums, b.sums, rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(64))
def test_any_split_equals_the_single_pass(seed: int) -> None:
    x, labels = rows(seed)
    generator = np.random.default_rng([seed, 1])
    shards = int(generator.integers(1, 17))
    owner = generator.integers(0, shards, len(x))
    parts = [np.flatnonzero(owner == i) for i in range(shards)] + [np.zeros(0, np.int64)]
    merged = ClassSums.zero(6, max_labels=MAX_LABELS)
    for i in generator.permutation(len(parts)):
        merged = merged + count(x[parts[i]], labels[parts[i]])
    same(merged, count(x, labels))
    assert merged.labels.size == MAX_LABELS
    assert merged.other_rows > 0


def test_merge_is_associative_and_commutative_with_zero() -> None:
    a, b, c = (count(*rows(seed, 50)) for seed in range(3))
    same((a + b) + c, a + (b + c))
    same(a + b, b + a)
    same(a + ClassSums.zero(6, max_labels=MAX_LABELS), a)


def test_sums_are_those_of_the_directions_of_each_label() -> None:
    x, labels = rows(7)
    found = count(x, labels)
    finite = np.isfinite(x).all(1)
    held, kept = labels[finite], x[finite]
    norms = np.linalg.norm(kept, axis=1, keepdims=True)
    unit = np.divide(kept, norms, out=np.zeros_like(kept), where=norms > 0)
    np.testing.assert_array_equal(found.labels, np.unique(held)[:MAX_LABELS])
    for i, label in enumerate(found.labels):
        chosen = unit[held == label]
        assert found.rows[i] == len(chosen)
        np.testing.assert_allclose(found.sums[i], chosen.sum(0), atol=1e-10)
        np.testing.assert_allclose(found.centroids()[i], chosen.mean(0), atol=1e-10)
    assert found.dropped == 2
    assert found.n == len(x) - 2


def test_directions_of_extreme_rows() -> None:
    x = np.array([[3e300, 4e300], [3e-200, 4e-200], [0.0, 0.0]])
    np.testing.assert_allclose(unit_rows(x), [[0.6, 0.8], [0.6, 0.8], [0.0, 0.0]], atol=1e-12)
    assert unit_rows(np.zeros((2, 0))).shape == (2, 0)


def test_no_label_is_kept_when_none_may_be() -> None:
    found = ClassSums.of_rows(*rows(9), max_labels=0)
    assert found.labels.size == 0
    assert found.other_rows == found.n == 298
    assert found.centroids().shape == (0, 6)


def test_wrong_shapes_and_settings() -> None:
    with pytest.raises(ValueError, match="x, labels"):
        count(np.zeros(3), np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="x, labels"):
        count(np.zeros((3, 6)), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="cannot merge"):
        count(*rows(1)).merge(ClassSums.zero(6))
    with pytest.raises(ValueError, match="cannot merge"):
        ClassSums.zero(2).merge(ClassSums.zero(3))
    with pytest.raises(ValueError, match="sums: expected"):
        ClassSums(6, np.zeros(1), np.zeros(1), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="labels, rows"):
        ClassSums(6, np.zeros(1), np.zeros(2), np.zeros((1, 6)))
