"""The frame around every message: magic, version, kind, length, CRC32C, protobuf.

    offset  size  field
    0       4     magic b"IPLN"
    4       1     major version of the schema (1)
    5       1     kind of message
    6       2     reserved, zero
    8       4     length of the payload, little-endian
    12      4     CRC32C of the payload, little-endian
    16      n     protobuf

Everything that bounds the memory of a parse is checked before the parse: the length, the checksum and the
number of repeated sub-messages. Unknown newer fields inside a known major version are ignored; another major
version is refused.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final, TypeVar

import crc32c
from google.protobuf.message import DecodeError as ProtobufDecodeError
from google.protobuf.message import Message

from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.errors import DecodeError
from infoplane.wire.submessages import count_repeated

MAGIC: Final = b"IPLN"
VERSION: Final = 1
HEADER: Final = struct.Struct("<4sBBHII")
MAX_PAYLOAD_BYTES: Final = 4 << 20
MAX_SUBMESSAGES: Final = 4096
CONTENT_TYPE: Final = "application/x-infoplane-protobuf"
REASONS: Final = frozenset(
    {
        "short",
        "magic",
        "version",
        "kind",
        "length",
        "checksum",
        "submessages",
        "protobuf",
        "content",
    }
)


class Kind(IntEnum):
    """What a frame holds."""

    RECORD = 1
    WINDOW_PANE = 2
    RESULT = 3
    VERDICT = 4
    DEAD_LETTER = 5
    STAGE_STATE = 6
    EVENT_BATCH = 7
    SIGNED_COMMAND = 8
    AUDIT_ENTRY = 9
    AGENT_CONFIG = 10


_TYPES: Final[dict[Kind, type[Message]]] = {
    Kind.RECORD: pb.Record,
    Kind.WINDOW_PANE: pb.WindowPane,
    Kind.RESULT: pb.Result,
    Kind.VERDICT: pb.Verdict,
    Kind.DEAD_LETTER: pb.DeadLetter,
    Kind.STAGE_STATE: pb.StageState,
    Kind.EVENT_BATCH: pb.EventBatch,
    Kind.SIGNED_COMMAND: pb.SignedCommand,
    Kind.AUDIT_ENTRY: pb.AuditEntry,
    Kind.AGENT_CONFIG: pb.AgentConfig,
}
_KINDS: Final[dict[type[Message], Kind]] = {cls: kind for kind, cls in _TYPES.items()}

M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """Frame `message`; deterministic, so equal messages give equal bytes.

    Raises:
        TypeError: the message is not one of the kinds of the schema.
    """
    kind = _KINDS.get(type(message))
    if kind is None:
        raise TypeError(f"{type(message).__name__} is not a top-level message of the schema")
    payload = message.SerializeToString(deterministic=True)
    header = HEADER.pack(MAGIC, VERSION, kind, 0, len(payload), crc32c.crc32c(payload))
    return header + payload


def decode(data: bytes | memoryview, expected: type[M]) -> M:
    """Parse one framed message of type `expected`.

    Raises:
        DecodeError: for anything that is not one; the only error that hostile bytes can cause.
    """
    view = memoryview(data)
    payload = _checked_payload(view, _KINDS[expected])
    raw = bytes(payload)
    if count_repeated(raw, expected.DESCRIPTOR, MAX_SUBMESSAGES) > MAX_SUBMESSAGES:
        raise DecodeError("submessages", f"more than {MAX_SUBMESSAGES}")
    message = expected()
    try:
        message.ParseFromString(raw)
    except (ProtobufDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError("protobuf", str(error)) from None
    return message


def _checked_payload(view: memoryview, kind: Kind) -> memoryview:
    if len(view) < HEADER.size:
        raise DecodeError("short", f"{len(view)} bytes, header has {HEADER.size}")
    magic, version, found, reserved, length, checksum = HEADER.unpack_from(view)
    if magic != MAGIC:
        raise DecodeError("magic", repr(bytes(magic)))
    if version != VERSION or reserved != 0:
        raise DecodeError("version", f"{version}, this reader knows {VERSION}")
    if found != kind:
        raise DecodeError("kind", f"{found}, expected {kind.name}")
    payload = view[HEADER.size :]
    if length != len(payload) or length > MAX_PAYLOAD_BYTES:
        raise DecodeError("length", f"header says {length}, found {len(payload)}")
    if crc32c.crc32c(payload) != checksum:
        raise DecodeError("checksum")
    return payload
