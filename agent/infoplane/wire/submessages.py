"""Counts repeated sub-messages in protobuf bytes without parsing them.

A repeated message costs two bytes on the wire and about a hundred in memory, so half a megabyte of
hostile bytes could ask for tens of megabytes. Counting the tags first bounds that. Only the parts of the schema
that can hold repeated messages are walked, so a record costs about one step per tap.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

from google.protobuf.descriptor import FieldDescriptor

from infoplane.wire.errors import DecodeError

# Descriptors have another class in each protobuf runtime, so there is no one type to name.
Descriptor: TypeAlias = Any
_MAX_DEPTH = 16


def count_repeated(data: bytes, descriptor: Descriptor, limit: int) -> int:
    """Return the number of repeated sub-messages in `data`, or `limit` + 1 as soon as it is passed.

    Singular messages that come more than once count too, where they are met: each costs a merge. Inside a message
    that can hold no repeated one nothing is counted, since a repetition there only merges into the one before.

    Raises:
        DecodeError: `data` is not a sequence of protobuf fields.
    """
    return _count(data, 0, len(data), descriptor, limit, 0)


@cache
def _message_fields(descriptor: Descriptor) -> dict[int, tuple[Descriptor, bool]]:
    """Field number -> (type, whether it must be walked) for every message-typed field."""
    return {
        field.number: (field.message_type, _holds_repeated(field.message_type))
        for field in descriptor.fields
        if field.type == FieldDescriptor.TYPE_MESSAGE
    }


@cache
def _holds_repeated(descriptor: Descriptor) -> bool:
    return any(
        is_repeated(field) or _holds_repeated(field.message_type)
        for field in descriptor.fields
        if field.type == FieldDescriptor.TYPE_MESSAGE
    )


def is_repeated(field: Any) -> bool:
    """Whether `field` is repeated, on every protobuf runtime of the range.

    Runtime 7 has only `is_repeated`, runtime 4 only `label`.
    """
    known = getattr(field, "is_repeated", None)
    return bool(known if known is not None else field.label == FieldDescriptor.LABEL_REPEATED)


def _count(data: bytes, at: int, end: int, descriptor: Descriptor, limit: int, depth: int) -> int:
    if depth > _MAX_DEPTH:
        raise DecodeError("protobuf", "nested too deep")
    fields = _message_fields(descriptor)
    count = 0
    while at < end:
        tag, at = _varint(data, at, end)
        wire_type = tag & 7
        if wire_type != 2:
            at = _skip(data, at, end, wire_type)
            continue
        length, at = _varint(data, at, end)
        if at + length > end:
            raise DecodeError("protobuf", "field longer than the message")
        known = fields.get(tag >> 3)
        if known is not None:
            count += 1
            if known[1]:
                count += _count(data, at, at + length, known[0], limit, depth + 1)
            if count > limit:
                return limit + 1
        at += length
    return count


def _skip(data: bytes, at: int, end: int, wire_type: int) -> int:
    if wire_type == 0:
        return _varint(data, at, end)[1]
    size = {1: 8, 5: 4}.get(wire_type)
    if size is None or at + size > end:
        raise DecodeError("protobuf", f"wire type {wire_type}")
    return at + size


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise DecodeError("protobuf", "broken varint")
