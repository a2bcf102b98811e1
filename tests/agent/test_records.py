from __future__ import annotations

import numpy as np
import pytest

from infoplane.agent.records import agent_body, pack_rows
from infoplane.wire import from_tensor


def unpacked(rows: np.ndarray) -> np.ndarray:
    packed = pack_rows(rows)
    scaled, scale = from_tensor(packed.scaled), from_tensor(packed.scale)
    assert scaled.dtype == np.float16
    assert np.abs(scaled).max(initial=0) <= 1
    return scaled.astype(np.float32) * scale[:, None]


def test_rows_of_any_size_come_back_to_half_precision() -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(50, 8)) * 10.0 ** generator.integers(-20, 20, size=(50, 1))
    rows = rows.astype(np.float32)
    error = np.abs(unpacked(rows) - rows).max(axis=1)
    assert (error <= 2.0**-11 * np.abs(rows).max(axis=1)).all()


@pytest.mark.filterwarnings("error")
def test_zero_rows_stay_zero_and_rows_that_are_not_finite_come_back_as_nan() -> None:
    rows = np.ones((4, 3), dtype=np.float32)
    rows[0], rows[1, 1], rows[2, 0] = 0, np.nan, np.inf
    back = unpacked(rows)
    np.testing.assert_array_equal(back[0], 0)
    assert np.isnan(back[1:3]).all()
    np.testing.assert_array_equal(back[3], 1)


def test_no_rows_are_allowed() -> None:
    assert unpacked(np.zeros((0, 4), dtype=np.float32)).shape == (0, 4)


def test_counters_keep_name_and_reason() -> None:
    body = agent_body({("records_dropped", "queue_full"): 2.0, ("steps", ""): 5.0})
    found = [(counter.name, counter.reason, counter.value) for counter in body.counters]
    assert found == [("records_dropped", "queue_full", 2.0), ("steps", "", 5.0)]
