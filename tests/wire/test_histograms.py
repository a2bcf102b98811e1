from __future__ import annotations

import numpy as np
import pytest

from infoplane.wire import DecodeError, to_tensor
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.histograms import from_histogram, to_histogram


@pytest.mark.parametrize("occupied", [[], [0], [9], [3, 5], list(range(10))])
def test_counts_come_back_whatever_is_empty(occupied: list[int]) -> None:
    counts = np.zeros(10, np.int32)
    counts[occupied] = np.arange(1, len(occupied) + 1)
    message = to_histogram(counts, 4, is_signed=True)
    assert message.nonfinite == 4
    assert message.is_signed
    np.testing.assert_array_equal(from_histogram(message), counts)
    sent = message.counts.shape[0]
    assert sent == (max(occupied) - min(occupied) + 1 if occupied else 0)


def test_counts_of_all_buckets_are_read_too() -> None:
    message = pb.Histogram(counts=to_tensor(np.arange(5)))
    np.testing.assert_array_equal(from_histogram(message), np.arange(5))


def test_counts_outside_the_buckets_are_refused() -> None:
    message = pb.Histogram(counts=to_tensor(np.arange(5)), first=7, size=10)
    with pytest.raises(DecodeError, match="7 to 12 of 10"):
        from_histogram(message)
