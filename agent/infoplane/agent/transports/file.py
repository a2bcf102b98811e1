"""A transport that appends to a recorded log: training without a broker, replayed later."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from infoplane.agent.counters import Counters
from infoplane.agent.transports.base import Outgoing
from infoplane.wire.log import LogEntry, LogWriter

_FLUSH_S: Final = 1.0
_PARTITION: Final = 0


class FileTransport:
    """Appends to one log file per rank (see infoplane.wire.log), flushed about once a second.

    Args:
        path: the file; give each rank its own. An existing log is continued.
        counters: where outcomes are counted.
        max_bytes: refuse messages once the file has grown by this much.
    """

    def __init__(self, path: Path, counters: Counters, *, max_bytes: int = 64 << 30) -> None:
        self._writer = LogWriter(path)
        self._counters = counters
        self._left_bytes = max_bytes
        self._unflushed = 0
        self._next_flush = 0.0

    def send(self, message: Outgoing) -> bool:
        """Append `message`; an error of the disk is the caller's to count."""
        if message.nbytes > self._left_bytes:
            return False
        offset = self._writer.next_offsets.get((message.topic, _PARTITION), 0)
        self._writer.append(
            LogEntry(
                message.topic, _PARTITION, offset, message.timestamp_ms, message.key, message.value
            )
        )
        self._left_bytes -= message.nbytes
        self._unflushed += 1
        self._counters.add("records_sent")
        self._counters.add("bytes_sent", value=message.nbytes)
        return True

    def poll(self) -> None:
        """Flush about once a second."""
        if self._unflushed and time.monotonic() >= self._next_flush:
            self._next_flush = time.monotonic() + _FLUSH_S
            self._flush()

    def close(self, timeout_s: float) -> None:
        """Flush and close the file."""
        try:
            self._flush()
        finally:
            self._writer.close()

    def _flush(self) -> None:
        self._writer.flush()
        self._counters.add("records_delivered", value=self._unflushed)
        self._unflushed = 0
