"""Tensors: every element type, byte order and shape, and what does not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from infoplane.wire import DecodeError, from_tensor, to_tensor
from infoplane.wire import infoplane_pb2 as pb

DTYPES = ["f2", "f4", "f8", "i4", "i8", "u8", "u1"]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", DTYPES)
@given(shape=st.lists(st.integers(0, 4), max_size=4), seed=st.integers(0, 2**32 - 1))
def test_every_type_order_and_shape_round_trips(
    dtype: str, order: str, shape: list[int], seed: int
) -> None:
    raw = np.random.default_rng(seed).bytes(int(np.prod(shape)) * np.dtype(dtype).itemsize)
    array: NDArray[Any] = np.frombuffer(raw, dtype=order + dtype).reshape(shape)
    tensor = to_tensor(array)
    back = from_tensor(pb.Tensor.FromString(tensor.SerializeToString()))
    assert back.shape == array.shape
    assert back.dtype == np.dtype("<" + dtype)
    # Bits, not values: a NaN must survive, too.
    assert back.tobytes() == array.astype("<" + dtype).tobytes() or np.array_equal(back, array)
    assert not back.flags.writeable


def test_bytes_are_little_endian_in_c_order() -> None:
    array = np.array([[1, 3], [2, 4]], dtype=">i4").T
    assert to_tensor(array).data == bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0])
    assert list(to_tensor(array).shape) == [2, 2]


def test_strided_views_and_scalars() -> None:
    array = np.arange(20, dtype=np.float32).reshape(4, 5)[::2, ::-2]
    assert np.array_equal(from_tensor(to_tensor(array)), array)
    assert from_tensor(to_tensor(np.float64(2.5))) == 2.5  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["bool", "complex64", "i2", "u4", "S3", "O"])
def test_other_types_are_refused_when_written(dtype: str) -> None:
    with pytest.raises(TypeError, match="no wire type"):
        to_tensor(np.zeros(2, dtype=dtype))


@pytest.mark.parametrize(
    "tensor",
    [
        pb.Tensor(shape=[1], data=b"1"),
        pb.Tensor(dtype=pb.FLOAT32, shape=[2], data=b"1234"),
        pb.Tensor(dtype=pb.FLOAT32, shape=[1], data=b"123"),
        pb.Tensor(dtype=pb.UINT8, shape=[1, 1, 1, 1, 1], data=b"1"),
        pb.Tensor(dtype=pb.UINT8, shape=[2**32 - 1] * 4, data=b"1"),
        pb.Tensor.FromString(b"\x08\x63\x12\x01\x01\x1a\x01x"),  # element type 99
    ],
)
def test_tensors_that_contradict_themselves_raise_decode_error(tensor: pb.Tensor) -> None:
    with pytest.raises(DecodeError) as caught:
        from_tensor(tensor)
    assert caught.value.reason == "content"


def test_an_expected_shape_is_checked() -> None:
    tensor = to_tensor(np.zeros((2, 3), dtype=np.float32))
    assert from_tensor(tensor, shape=(None, 3)).shape == (2, 3)
    for wanted in ((3, None), (2, 3, 1), (6,)):
        with pytest.raises(DecodeError, match="expected"):
            from_tensor(tensor, shape=wanted)
