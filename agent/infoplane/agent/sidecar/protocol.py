"""What rank and sidecar say to each other: small frames over a socket, messages in the ring.

rank -> sidecar    BEGIN, MESSAGE  (length, place)      something lies in the ring
                   END             (milliseconds left)
sidecar -> rank    TAKEN           (messages)           so much of the ring is free again
                   COUNTS          (length), JSON       what happened since the last report
                   DONE                                 everything is settled
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Final

from infoplane.agent.transports.base import Outgoing

BEGIN: Final = 1
MESSAGE: Final = 2
END: Final = 3
TAKEN: Final = 4
COUNTS: Final = 5
DONE: Final = 6

_FRAME: Final = struct.Struct("<B3xIQ")
_HEAD: Final = struct.Struct("<HHIq")  # bytes of topic, bytes of key, events, timestamp

FRAME_BYTES: Final = _FRAME.size
Totals = Mapping[tuple[str, str], float]


def frame(kind: int, amount: int = 0, place: int = 0) -> bytes:
    """Return one frame."""
    return _FRAME.pack(kind, amount, place)


def lay_out(message: Outgoing) -> tuple[bytes, ...]:
    """Return `message` in parts, as it lies in the ring."""
    topic = message.topic.encode()
    head = _HEAD.pack(len(topic), len(message.key), message.events, message.timestamp_ms)
    return head, topic, message.key, message.value


def read_message(data: bytes) -> Outgoing:
    """Return the message that lies in the ring as `data`."""
    topic_bytes, key_bytes, events, timestamp_ms = _HEAD.unpack_from(data)
    first = _HEAD.size + topic_bytes
    topic, key = data[_HEAD.size : first].decode(), data[first : first + key_bytes]
    return Outgoing(topic, key, data[first + key_bytes :], timestamp_ms, events)


def counts_frame(before: Totals, now: Totals) -> bytes:
    """Return the frame that says what grew between two snapshots of counters; empty if nothing did."""
    grown = [
        (*key, value - before.get(key, 0.0))
        for key, value in now.items()
        if value != before.get(key)
    ]
    if not grown:
        return b""
    body = json.dumps(grown).encode()
    return frame(COUNTS, len(body)) + body


def read_counts(body: bytes) -> list[tuple[str, str, float]]:
    """Return (name, reason, growth) of every counter that grew."""
    return [(str(name), str(reason), float(value)) for name, reason, value in json.loads(body)]


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._left = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield (kind, amount, place, body) of every frame that is complete with `data`."""
        self._left += data
        while len(self._left) >= FRAME_BYTES:
            kind, amount, place = _FRAME.unpack_from(self._left)
            end = FRAME_BYTES + (amount if kind == COUNTS else 0)
            if len(self._left) < end:
                return
            body = bytes(self._left[FRAME_BYTES:end])
            del self._left[:end]
            yield kind, amount, place, body
