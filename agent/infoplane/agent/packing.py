"""Rows on the wire: half the bytes, at a precision that is the same for every row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire import to_tensor


def pack_rows(rows: npt.NDArray[np.float32]) -> pb.Rows:
    """Return rows (k, r) as float16 in -1..1 with a float32 scale per row; relative error 2^-11 of the largest.

    A row with a NaN or an infinity becomes zeros with scale NaN, so it reads back as NaN.
    """
    scale = np.abs(rows).max(axis=1, initial=0.0)
    is_finite = np.isfinite(scale)
    divisor = np.where(is_finite & (scale > 0), scale, np.float32(1.0))
    scaled = np.where(is_finite[:, None], rows / divisor[:, None], np.float32(0.0))
    kept = np.where(is_finite, scale, np.float32(np.nan)).astype(np.float32)
    return pb.Rows(scaled=to_tensor(scaled.astype(np.float16)), scale=to_tensor(kept))
