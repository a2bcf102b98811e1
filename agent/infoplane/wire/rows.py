"""Rows on the wire: half the bytes, at a precision that is the same for every row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def scaled_rows(rows: NDArray[Any]) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Return rows (k, r) as float16 in -1..1 and a float32 scale (k,); relative error 2^-11 of a row's largest.

    A row with a NaN or an infinity becomes zeros with scale NaN, so it reads back as NaN.
    """
    scale = np.abs(rows).max(axis=1, initial=0.0)
    is_finite = np.isfinite(scale)
    divisor = np.where(is_finite & (scale > 0), scale, rows.dtype.type(1.0))
    scaled = np.where(is_finite[:, None], rows / divisor[:, None], rows.dtype.type(0.0))
    kept = np.where(is_finite, scale, rows.dtype.type(np.nan)).astype(np.float32)
    return scaled.astype(np.float16), kept
