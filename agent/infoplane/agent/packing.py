"""Packed rows as a message."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire import to_tensor
from infoplane.wire.rows import scaled_rows


def pack_rows(rows: npt.NDArray[np.float32]) -> pb.Rows:
    """Return the message of rows (k, r), packed by `infoplane.wire.rows.scaled_rows`."""
    scaled, scale = scaled_rows(rows)
    return pb.Rows(scaled=to_tensor(scaled), scale=to_tensor(scale))
