"""Histograms on the wire: counts of buckets, without the empty ones at either end."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.errors import DecodeError
from infoplane.wire.tensors import from_tensor, to_tensor

MAX_BUCKETS: Final = 1 << 16


def to_histogram(counts: NDArray[Any], nonfinite: int, *, is_signed: bool) -> pb.Histogram:
    """Return the wire form of integer `counts` (buckets,), from the first to the last that is not empty."""
    occupied = np.flatnonzero(counts)
    first, stop = (int(occupied[0]), int(occupied[-1]) + 1) if len(occupied) else (0, 0)
    return pb.Histogram(
        is_signed=is_signed,
        counts=to_tensor(counts[first:stop]),
        nonfinite=nonfinite,
        first=first,
        size=len(counts),
    )


def from_histogram(message: pb.Histogram) -> NDArray[np.int64]:
    """Return the counts of all buckets, int64 (buckets,).

    Raises:
        DecodeError: the counts do not lie inside the buckets.
    """
    counts = from_tensor(message.counts, shape=(None,)).astype(np.int64)
    if not message.size:
        return counts
    stop = message.first + len(counts)
    if stop > message.size or message.size > MAX_BUCKETS:
        raise DecodeError("content", f"buckets {message.first} to {stop} of {message.size}")
    whole = np.zeros(message.size, np.int64)
    whole[message.first : stop] = counts
    return whole
