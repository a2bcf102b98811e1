"""Soft counts per label: merge laws, bounded labels, degenerate rows."""

from __future__ import annotations

import numpy as np
import pytest

from infoplane.estimators.state.soft_counts import SoftCounts
from infoplane.estimators.state.soft_reference import SoftReference

REFERENCE = SoftReference(6, points=12, seed=1)
MAX_LABELS = 9


def rows(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Return rows, two of them odd, and labels of which there are more than may be kept."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, 6))
    x[3, 2], x[4] = np.inf, 0.0
    return x, generator.zipf(1.5, n) % 40 - 5


def count(x: np.ndarray, labels: np.ndarray | None) -> SoftCounts:
    """Count with few labels."""
    return SoftCounts.of_rows(x, labels, reference=REFERENCE, max_labels=MAX_LABELS)


def same(a: SoftCounts, b: SoftCounts) -> None:
    """Compare counts exactly, sums to 1e-10."""
    for name in ("labels", "rows"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.other_rows, a.dropped, a.n) == (b.other_rows, b.dropped, b.n)
    for name in ("sums", "other", "row_entropy"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(64))
def test_any_split_equals_the_single_pass(seed: int) -> None:
    x, labels = rows(seed)
    generator = np.random.default_rng([seed, 1])
    shards = int(generator.integers(1, 17))
    owner = generator.integers(0, shards, len(x))
    parts = [np.flatnonzero(owner == i) for i in range(shards)] + [np.zeros(0, np.int64)]
    merged = SoftCounts.zero(REFERENCE, max_labels=MAX_LABELS)
    for i in generator.permutation(len(parts)):
        merged = merged + count(x[parts[i]], labels[parts[i]])
    same(merged, count(x, labels))
    assert merged.labels.size <= MAX_LABELS


def test_merge_is_associative_and_commutative_with_zero() -> None:
    a, b, c = (count(*rows(seed, 50)) for seed in range(3))
    same((a + b) + c, a + (b + c))
    same(a + b, b + a)
    same(a + SoftCounts.zero(REFERENCE, max_labels=MAX_LABELS), a)


def test_sums_are_those_of_the_rows_of_each_label() -> None:
    x, labels = rows(7)
    found = count(x, labels)
    finite = np.isfinite(x).all(1)
    shares = REFERENCE.assignments(x[finite])
    held = labels[finite]
    np.testing.assert_array_equal(found.labels, np.unique(held)[:MAX_LABELS])
    for label, number, total in zip(found.labels, found.rows, found.sums, strict=True):
        assert number == (held == label).sum()
        np.testing.assert_allclose(total, shares[held == label].sum(0), atol=1e-10)
    np.testing.assert_allclose(found.other, shares[held > found.labels[-1]].sum(0), atol=1e-10)
    np.testing.assert_allclose(found.total(), shares.sum(0), atol=1e-10)
    entropy = -(shares * np.log(shares)).sum()
    assert found.row_entropy == pytest.approx(entropy)
    assert found.dropped == 1
    assert found.n == len(x) - 1


def test_rows_without_labels_share_the_common_bin_and_blocks_change_nothing() -> None:
    x, labels = rows(8, 9000)
    bare = count(x, None)
    assert bare.labels.size == 0
    assert bare.other_rows == bare.n == 8999
    np.testing.assert_allclose(bare.total(), count(x, labels).total(), atol=1e-9)
    parts = count(x[:8192], labels[:8192]) + count(x[8192:], labels[8192:])
    same(parts, count(x, labels))


def test_no_label_is_kept_when_none_may_be() -> None:
    x, labels = rows(9)
    found = SoftCounts.of_rows(x, labels, reference=REFERENCE, max_labels=0)
    assert found.labels.size == 0
    assert found.other_rows == found.n


def test_wrong_shapes_and_settings() -> None:
    with pytest.raises(ValueError, match="x: expected"):
        count(np.zeros((3, 5)), None)
    with pytest.raises(ValueError, match="labels: expected"):
        count(np.zeros((3, 6)), np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="cannot merge"):
        count(*rows(1)).merge(SoftCounts.zero(REFERENCE))
    with pytest.raises(ValueError, match="sums, other"):
        SoftCounts(REFERENCE, np.zeros(1), np.zeros(1), np.zeros((1, 3)), 0, np.zeros(12))
    with pytest.raises(ValueError, match="labels, rows"):
        SoftCounts(REFERENCE, np.zeros(1), np.zeros(2), np.zeros((1, 12)), 0, np.zeros(12))
