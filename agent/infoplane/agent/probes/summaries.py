"""The wire form of named arrays that merge element by element."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire import to_tensor

Array = npt.NDArray[Any]


def summed(name: str, values: Array) -> pb.Summary:
    """Return counts or sums: they add over ranks and steps."""
    return pb.Summary(name=name, merge=pb.ADD, values=to_tensor(np.atleast_1d(values)))


def largest(name: str, values: Array) -> pb.Summary:
    """Return maxima."""
    return pb.Summary(name=name, merge=pb.MAXIMUM, values=to_tensor(np.atleast_1d(values)))


def smallest(name: str, values: Array) -> pb.Summary:
    """Return minima."""
    return pb.Summary(name=name, merge=pb.MINIMUM, values=to_tensor(np.atleast_1d(values)))
