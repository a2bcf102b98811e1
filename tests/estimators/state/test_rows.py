"""Row samples."""

from __future__ import annotations

import numpy as np
import pytest

from infoplane.estimators.state import RowSample


def sample(*keys: int, offset: float = 0.0) -> RowSample:
    """Return rows that hold their key."""
    key = np.array(keys, dtype=np.uint64)
    return RowSample(key, key[:, None].astype(np.float32) + offset, {"c": key.astype(np.int64)})


def test_rows_are_sorted_and_unique() -> None:
    found = sample(5, 2, 9, 2)
    assert found.keys.tolist() == [2, 5, 9]
    assert found.values[:, 0].tolist() == [2.0, 5.0, 9.0]
    assert found.columns["c"].tolist() == [2, 5, 9]
    assert found.smallest(2).keys.tolist() == [2, 5]
    assert len(found.smallest(99)) == 3


def test_join_aligns_common_keys() -> None:
    a, b = sample(1, 4, 7, 8), sample(8, 2, 4)
    i, j = a.join(b)
    assert a.keys[i].tolist() == b.keys[j].tolist() == [4, 8]


def test_rows_that_disagree_merge_the_same_way_round() -> None:
    parts = [sample(1, 2), sample(2, 3, offset=0.5), sample(2, offset=0.25)]
    first = parts[0] + parts[1] + parts[2]
    last = parts[2] + parts[1] + parts[0]
    np.testing.assert_array_equal(first.values, last.values)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="values"):
        RowSample(np.zeros(2, dtype=np.uint64), np.zeros((3, 1), dtype=np.float32))
    with pytest.raises(ValueError, match="columns"):
        RowSample(
            np.zeros(1, dtype=np.uint64), np.zeros((1, 1), dtype=np.float32), {"c": np.zeros(2)}
        )
    with pytest.raises(ValueError, match="width"):
        sample(1).merge(RowSample.empty(3))
    with pytest.raises(ValueError, match="columns"):
        sample(1).merge(RowSample(np.array([3], dtype=np.uint64), np.ones((1, 1), np.float32)))
