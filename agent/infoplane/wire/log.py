"""A recorded log: messages of Kafka topics in a file, to be replayed by tools.

    file    8 bytes     b"IPLNLOG" and the format version, 1
    then, for each entry, little-endian:
            4 bytes     length of the body
            4 bytes     CRC32C of the body
            body        q timestamp_ms, i partition, q offset, H length of topic, I length of key,
                        then topic, key and value

Only whole entries count: a process that was killed while it wrote leaves a torn tail, which readers
skip and the next writer cuts off. Damage before the tail raises.
"""

from __future__ import annotations

import contextlib
import heapq
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import IO, Final

import crc32c

from infoplane.wire.errors import DecodeError

LOG_MAGIC: Final = b"IPLNLOG\x01"
LOG_SUFFIX: Final = ".iplog"
MAX_ENTRY_BYTES: Final = 64 << 20
_PREFIX: Final = struct.Struct("<II")
_BODY: Final = struct.Struct("<qiqHI")


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One message of a log, with the position it had, or would have had, in Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes


class LogWriter:
    """Appends entries to one file; a torn tail that an earlier writer left is cut off first.

    Attributes:
        next_offsets: for each (topic, partition), the offset after the greatest one in the file.
    """

    def __init__(self, path: Path) -> None:
        self.next_offsets: dict[tuple[str, int], int] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        end = self._scan(path) if path.exists() else 0
        self._file: IO[bytes] = path.open("ab")
        self._file.truncate(end)
        if end == 0:
            self._file.write(LOG_MAGIC)

    def append(self, entry: LogEntry) -> None:
        """Write `entry`; it reaches the file at the next `flush`."""
        topic = entry.topic.encode()
        head = _BODY.pack(
            entry.timestamp_ms, entry.partition, entry.offset, len(topic), len(entry.key)
        )
        body = b"".join((head, topic, entry.key, entry.value))
        if len(body) > MAX_ENTRY_BYTES:
            raise ValueError(
                f"an entry of {len(body)} bytes, at most {MAX_ENTRY_BYTES} are allowed"
            )
        try:
            self._file.write(_PREFIX.pack(len(body), crc32c.crc32c(body)) + body)
        except OSError:
            # Part of it may be in the file. As the tail it does no harm, so nothing may follow it.
            with contextlib.suppress(OSError):
                self._file.close()
            raise
        self._remember(entry)

    def flush(self) -> None:
        """Hand everything to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close the file."""
        self._file.close()

    def _scan(self, path: Path) -> int:
        end = 0
        with path.open("rb") as file:
            for entry, end in _entries(file):  # noqa: B007 - the last `end` is the result
                self._remember(entry)
            return end if end else _valid_magic(file)

    def _remember(self, entry: LogEntry) -> None:
        place = (entry.topic, entry.partition)
        self.next_offsets[place] = max(self.next_offsets.get(place, 0), entry.offset + 1)


def read_log(path: str | Path) -> Iterator[LogEntry]:
    """Yield the entries of a log file, or of all logs in a directory.

    A file keeps its order and offsets. A directory (one file per rank) is merged by timestamp, ties
    by file name, and offsets are given anew, so that the result looks like one partition of each
    topic.

    Raises:
        DecodeError: a file is not a log, or is damaged before its tail.
    """
    path = Path(path)
    if not path.is_dir():
        yield from _read_file(path)
        return
    offsets: dict[tuple[str, int], int] = {}
    files = sorted(path.glob(f"*{LOG_SUFFIX}"))
    # merge() is stable: entries of equal time keep the order of their files.
    for entry in heapq.merge(*map(_read_file, files), key=attrgetter("timestamp_ms")):
        place = (entry.topic, entry.partition)
        offsets[place] = offset = offsets.get(place, -1) + 1
        yield replace(entry, offset=offset)


def _read_file(path: Path) -> Iterator[LogEntry]:
    with path.open("rb") as file:
        for entry, _ in _entries(file):
            yield entry


def _entries(file: IO[bytes]) -> Iterator[tuple[LogEntry, int]]:
    """Yield every whole entry and the position after it."""
    size = file.seek(0, 2)
    file.seek(0)
    end = _valid_magic(file)
    while end:
        prefix = file.read(_PREFIX.size)
        if len(prefix) < _PREFIX.size:
            return
        length, checksum = _PREFIX.unpack(prefix)
        after = end + _PREFIX.size + length
        if after > size or not any(prefix):
            return  # cut short, or never written (file systems pad with zeros after a power cut)
        if not _BODY.size <= length <= MAX_ENTRY_BYTES:
            raise DecodeError("length", f"entry of {length} bytes at {end}")
        body = file.read(length)
        if crc32c.crc32c(body) != checksum:
            if after == size:
                return
            raise DecodeError("checksum", f"entry at {end}")
        yield _parse(body, end), after
        end = after


def _valid_magic(file: IO[bytes]) -> int:
    """Return the length of the file's magic, or 0 for a file that was cut short within it."""
    file.seek(0)
    magic = file.read(len(LOG_MAGIC))
    if magic == LOG_MAGIC:
        return len(LOG_MAGIC)
    if LOG_MAGIC.startswith(magic):
        return 0
    raise DecodeError("magic", repr(magic))


def _parse(body: bytes, at: int) -> LogEntry:
    timestamp_ms, partition, offset, topic_length, key_length = _BODY.unpack_from(body)
    key_at = _BODY.size + topic_length
    value_at = key_at + key_length
    if value_at > len(body):
        raise DecodeError("length", f"key beyond the entry at {at}")
    try:
        topic = body[_BODY.size : key_at].decode()
    except UnicodeDecodeError as error:
        raise DecodeError("content", f"topic of the entry at {at}") from error
    return LogEntry(topic, partition, offset, timestamp_ms, body[key_at:value_at], body[value_at:])
