"""The saved form of a state machine: a JSON head and any number of binary chunks."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from infoplane.wire import DecodeError

_LENGTH = struct.Struct("<I")


def pack(stage: str, version: int, head: Mapping[str, Any], chunks: Sequence[bytes]) -> bytes:
    """Return `head` (JSON-ready values) and `chunks` as one string of bytes."""
    text = json.dumps({"stage": stage, "version": version, **head}).encode()
    return b"".join(_LENGTH.pack(len(chunk)) + chunk for chunk in (text, *chunks))


def unpack(stage: str, version: int, data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """Return what `pack` was given.

    Raises:
        DecodeError: written by another stage or version, or torn.
    """
    chunks, at = [], 0
    while at < len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        chunks.append(data[at + _LENGTH.size : at + _LENGTH.size + length])
        at += _LENGTH.size + length
    if not chunks or at != len(data):
        raise DecodeError("length", "torn state")
    head: dict[str, Any] = json.loads(chunks[0])
    if (head.get("stage"), head.get("version")) != (stage, version):
        raise DecodeError("version", f"state of {head.get('stage')} {head.get('version')}")
    return head, chunks[1:]
