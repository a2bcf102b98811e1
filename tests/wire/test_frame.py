"""The frame: what goes in comes out, and whatever is damaged raises DecodeError and nothing else."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from pathlib import Path

import crc32c
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import GOLDEN, TOP_LEVEL, any_message, example_record

from infoplane.wire import DecodeError, InfoplaneError, decode, encode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.frame import HEADER, MAX_SUBMESSAGES, REASONS, Kind

FOLDER = Path(__file__).parent / "golden"


def framed(payload: bytes, *, kind: int = Kind.RECORD, version: int = 1, spare: int = 0) -> bytes:
    """Return `payload` under a header that is right about it."""
    header = HEADER.pack(b"IPLN", version, kind, spare, len(payload), crc32c.crc32c(payload))
    return header + payload


def length_delimited(number: int, payload: bytes) -> bytes:
    """Return one protobuf field of wire type 2."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


@pytest.mark.parametrize("kind", TOP_LEVEL)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_message_round_trips_and_equal_messages_give_equal_bytes(
    kind: type[Message], data: st.DataObject
) -> None:
    message = data.draw(any_message(kind))
    raw = encode(message)
    back = decode(raw, kind)
    assert back.SerializeToString(deterministic=True) == raw[HEADER.size :]
    assert encode(back) == raw
    assert decode(memoryview(raw), kind) == back or has_nan(raw)


def has_nan(raw: bytes) -> bool:
    # A message with a NaN is not equal to itself; its bytes were compared above.
    return any(struct.unpack_from("<d", raw, i)[0] != struct.unpack_from("<d", raw, i)[0]
               for i in range(len(raw) - 7))  # fmt: skip


@settings(deadline=None)
@given(cut=st.integers(0, len(encode(example_record())) - 1))
def test_truncated_bytes_raise_decode_error(cut: int) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(encode(example_record())[:cut], pb.Record)
    assert caught.value.reason in REASONS


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_one_flipped_bit_anywhere_raises_decode_error(data: st.DataObject) -> None:
    raw = bytearray(encode(example_record()))
    at = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[at // 8] ^= 1 << at % 8
    with pytest.raises(DecodeError) as caught:
        decode(bytes(raw), pb.Record)
    assert caught.value.reason in REASONS


@pytest.mark.parametrize("kind", TOP_LEVEL)
@settings(max_examples=100, deadline=None)
@given(noise=st.binary(max_size=400))
def test_random_bytes_with_a_right_header_give_a_message_or_decode_error(
    kind: type[Message], noise: bytes
) -> None:
    index = TOP_LEVEL.index(kind) + 1
    with contextlib.suppress(DecodeError):  # anything else fails the test
        assert isinstance(decode(framed(noise, kind=index), kind), kind)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_mutated_payload_with_a_right_header_gives_a_message_or_decode_error(
    data: st.DataObject,
) -> None:
    payload = bytearray(example_record().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(DecodeError):
        assert isinstance(decode(framed(bytes(payload)), pb.Record), pb.Record)


@settings(deadline=None)
@given(noise=st.binary(max_size=64))
def test_random_bytes_raise_decode_error(noise: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(noise, pb.Record)


def peak_bytes_of(data: bytes) -> tuple[DecodeError, int]:
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError) as caught:
            decode(data, pb.Record)
        return caught.value, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_bomb_of_empty_repeated_messages_is_refused_before_the_parse() -> None:
    taps = length_delimited(4, b"") * 500_000  # one megabyte of empty TapSketch
    bomb = framed(length_delimited(20, taps))
    error, peak = peak_bytes_of(bomb)
    assert error.reason == "submessages"
    assert peak < 3 * len(bomb)


def test_a_bomb_deep_inside_known_fields_is_refused() -> None:
    scalars = length_delimited(1, b"") * (MAX_SUBMESSAGES + 1)
    assert peak_bytes_of(framed(length_delimited(22, scalars)))[0].reason == "submessages"


def test_as_many_messages_as_are_allowed_pass() -> None:
    record = pb.Record(scalars=pb.Scalars(values=[pb.Scalar()] * (MAX_SUBMESSAGES - 1)))
    assert decode(encode(record), pb.Record) == record


def test_deep_nesting_raises_decode_error() -> None:
    payload = b""
    for _ in range(5000):
        payload = length_delimited(20, payload)
    with contextlib.suppress(DecodeError):
        decode(framed(payload), pb.Record)


def test_a_length_beyond_the_limit_is_refused() -> None:
    huge = framed(bytes(4 << 20) + b"\0")
    with pytest.raises(DecodeError, match="length"):
        decode(huge, pb.Record)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (framed(b"")[:15], "short"),
        (b"XPLN" + framed(b"")[4:], "magic"),
        (framed(b"", version=2), "version"),
        (framed(b"", version=0), "version"),
        (framed(b"", spare=1), "version"),
        (framed(b"", kind=Kind.RESULT), "kind"),
        (framed(b"") + b"x", "length"),
        (framed(b"\x0a\x05short"[:-2]), "protobuf"),
        (framed(b"\x0a\x01\xff"), "protobuf"),  # not UTF-8
    ],
)
def test_reasons(raw: bytes, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(raw, pb.Record)
    assert caught.value.reason == reason
    assert isinstance(caught.value, InfoplaneError | ValueError)


def test_a_wrong_checksum_is_named() -> None:
    raw = bytearray(framed(b"\x18\x01"))
    raw[-1] ^= 1
    with pytest.raises(DecodeError, match="checksum"):
        decode(bytes(raw), pb.Record)


def test_unknown_newer_fields_are_ignored() -> None:
    record = example_record()
    payload = record.SerializeToString()
    newer = payload + varint(900 << 3) + b"\x07" + length_delimited(901, b"from the future")
    back = decode(framed(newer), pb.Record)
    back.DiscardUnknownFields()
    assert back == record


def test_a_message_that_is_no_top_level_kind_is_the_callers_mistake() -> None:
    with pytest.raises(TypeError, match="Scalar"):
        encode(pb.Scalar())


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden_bytes_of_version_1_are_still_written_and_read(name: str) -> None:
    raw = (FOLDER / f"{name}.v1.bin").read_bytes()
    assert encode(GOLDEN[name]) == raw
    assert decode(raw, type(GOLDEN[name])) == GOLDEN[name]
