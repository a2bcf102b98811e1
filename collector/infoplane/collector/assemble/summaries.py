"""Merging named arrays element by element: what probes of the agent send."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoplane.wire import DecodeError, from_tensor, to_tensor
from infoplane.wire import infoplane_pb2 as pb

_LAWS: dict[int, np.ufunc] = {pb.ADD: np.add, pb.MAXIMUM: np.maximum, pb.MINIMUM: np.minimum}


@dataclass(slots=True)
class SummaryMerge:
    """One array of one tap: float64 or int64, so that sums of many ranks stay exact or nearly so."""

    merge: int
    values: NDArray[Any]

    @classmethod
    def of(cls, message: pb.Summary) -> SummaryMerge:
        """Begin with one array; raises DecodeError for a law that is not known."""
        if message.merge not in _LAWS:
            raise DecodeError("content", f"summary {message.name} merges by law {message.merge}")
        values = from_tensor(message.values)
        return cls(
            message.merge, values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
        )

    def agrees_with(self, other: SummaryMerge) -> bool:
        """Whether the two can be merged."""
        mine, theirs = self.values, other.values
        return (self.merge, mine.shape, mine.dtype) == (other.merge, theirs.shape, theirs.dtype)

    def add(self, other: SummaryMerge) -> None:
        """Merge in another array that `agrees_with` this one."""
        _LAWS[self.merge](self.values, other.values, out=self.values)


def read_summaries(messages: Iterable[pb.Summary]) -> dict[str, SummaryMerge]:
    """Return the arrays by name; raises DecodeError for a name that comes twice."""
    found: dict[str, SummaryMerge] = {}
    for message in messages:
        if message.name in found:
            raise DecodeError("content", f"summary {message.name} comes twice")
        found[message.name] = SummaryMerge.of(message)
    return found


def write_summaries(summaries: dict[str, SummaryMerge]) -> list[pb.Summary]:
    """Return the wire form, sorted by name."""
    return [
        pb.Summary(name=name, merge=found.merge, values=to_tensor(found.values))  # type: ignore[arg-type]
        for name, found in sorted(summaries.items())
    ]
