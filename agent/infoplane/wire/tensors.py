"""Tensors on the wire: raw little-endian bytes with a type and a shape."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.errors import DecodeError

_DTYPES: Final[dict[int, np.dtype[Any]]] = {
    pb.FLOAT16: np.dtype("<f2"),
    pb.FLOAT32: np.dtype("<f4"),
    pb.FLOAT64: np.dtype("<f8"),
    pb.INT32: np.dtype("<i4"),
    pb.INT64: np.dtype("<i8"),
    pb.UINT64: np.dtype("<u8"),
    pb.UINT8: np.dtype("u1"),
}
_CODES: Final[dict[np.dtype[Any], int]] = {dtype: code for code, dtype in _DTYPES.items()}
MAX_DIMENSIONS: Final = 4


def to_tensor(array: NDArray[Any]) -> pb.Tensor:
    """Return the wire form of `array`; copies once.

    Raises:
        TypeError: the element type is not one of the schema's.
    """
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    code = _CODES.get(little.dtype)
    if code is None:
        raise TypeError(f"no wire type for {array.dtype}")
    return pb.Tensor(dtype=code, shape=array.shape, data=little.tobytes())  # type: ignore[arg-type]


def from_tensor(tensor: pb.Tensor, *, shape: tuple[int | None, ...] | None = None) -> NDArray[Any]:
    """Return a read-only view `shape` of the bytes of `tensor`, without a copy.

    Args:
        tensor: the wire form.
        shape: what the caller needs; None in a place accepts any size there.

    Raises:
        DecodeError: unknown type, or the byte count and shapes do not agree.
    """
    dtype = _DTYPES.get(tensor.dtype)
    found = tuple(tensor.shape)
    if dtype is None or len(found) > MAX_DIMENSIONS:
        raise DecodeError("content", f"tensor of type {tensor.dtype}, shape {found}")
    if math.prod(found) * dtype.itemsize != len(tensor.data):
        raise DecodeError("content", f"{len(tensor.data)} bytes for {dtype} {found}")
    if shape is not None and not _fits(found, shape):
        raise DecodeError("content", f"shape {found}, expected {shape}")
    return np.frombuffer(tensor.data, dtype=dtype).reshape(found)


def _fits(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(found) == len(wanted) and all(
        want is None or have == want for have, want in zip(found, wanted, strict=True)
    )
