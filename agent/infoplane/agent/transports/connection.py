"""One KafkaProducer, with an account of the bytes it holds, and a sure end."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

from infoplane.agent.transports.base import Outgoing
from infoplane.agent.transports.quiet import CLIENT_PREFIX
from infoplane.agent.transports.skew import ClockSkew
from infoplane.wire.kafka_client import KafkaError, KafkaProducer
from infoplane.wire.topics import HEADERS

RECORD_OVERHEAD_BYTES: Final = 512  # futures and batch entries that one record costs kafka-python
_numbers = itertools.count()


class Connection:
    """A producer, the bytes it holds, and the outcomes that its IO thread reports.

    The IO thread only appends to a deque (atomic); all counting happens in `settle`, called by the
    one thread that owns the connection.

    Attributes:
        inflight_bytes: bytes of records handed over and not settled.
        inflight_records: their number.
        skew: takes note of the broker's times.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        # Unique, so that the thread can be found by its name; the prefix quiets its log.
        name = str(settings["client_id"]).removeprefix(CLIENT_PREFIX)
        client_id = f"{CLIENT_PREFIX}{name}-{os.getpid()}-{next(_numbers)}"
        self._producer = KafkaProducer(**{**settings, "client_id": client_id})
        # kafka-python closes its producers at exit, and would do so before the publisher's own,
        # ordered
        # close, and in forked children, where it can only hang.
        cleanup = getattr(self._producer, "_cleanup", None)
        if cleanup is not None:
            atexit.unregister(cleanup)
        self._thread = _find_thread(client_id)
        self._outcomes: deque[tuple[int, Exception | None]] = deque()
        self._known: set[str] = set()
        self._cpu_seconds = 0.0
        self.skew: ClockSkew | None = None
        self.inflight_bytes = 0
        self.inflight_records = 0
        self.created = self._last_outcome = time.monotonic()
        self.last_delivery = float("-inf")

    @property
    def alive(self) -> bool:
        """Return whether the IO thread runs (True if it cannot be told)."""
        return self._thread is None or self._thread.is_alive()

    def silent_seconds(self) -> float:
        """Return for how long records have been in flight without any outcome."""
        return time.monotonic() - self._last_outcome if self.inflight_records else 0.0

    def knows(self, topic: str) -> bool:
        """Return whether the partitions of `topic` are known, so that `send` will not wait."""
        return topic in self._known

    def learn(self, topic: str) -> bool:
        """Ask for the partitions of `topic`; waits up to `max_block_ms`.

        Raises:
            KafkaError: the broker refuses, for example for lack of authorisation.
        """
        if self._producer.partitions_for(topic):
            self._known.add(topic)
        return topic in self._known

    def send(self, message: Outgoing) -> None:
        """Hand `message` over; any exception means that it was not taken."""
        future = self._producer.send(
            message.topic,
            value=message.value,
            key=message.key,
            headers=HEADERS,
            timestamp_ms=message.timestamp_ms,
        )
        nbytes = cost_of(message)
        if not self.inflight_records:
            self._last_outcome = time.monotonic()
        self.inflight_bytes += nbytes
        self.inflight_records += 1
        future.add_callback(self._note_delivery, nbytes, message.timestamp_ms, time.time())
        future.add_errback(self._note_failure, nbytes)

    def settle(self) -> list[Exception | None]:
        """Take the outcomes that came in: None for a delivery, the error for a failure."""
        settled: list[Exception | None] = []
        while self._outcomes:
            nbytes, error = self._outcomes.popleft()
            self.inflight_bytes -= nbytes
            self.inflight_records -= 1
            settled.append(error)
        if settled:
            self._last_outcome = time.monotonic()
            if settled[-1] is None:
                self.last_delivery = self._last_outcome
        return settled

    def cpu_seconds(self) -> float:
        """Return the CPU time of the IO thread since the last call; 0 if the system hides it."""
        before, self._cpu_seconds = (
            self._cpu_seconds,
            max(_thread_cpu_seconds(self._thread), self._cpu_seconds),
        )
        return self._cpu_seconds - before

    def close(self, timeout_s: float) -> None:
        """End the producer within about `timeout_s`; what is still in flight fails."""
        if self.inflight_records:
            # close() waits for what is in flight, and raises before it has stopped the thread.
            sender = getattr(self._producer, "_sender", None)
            if sender is not None:
                sender.force_close()
        with contextlib.suppress(KafkaError):
            # It may use its bound twice: to flush, and to join.
            self._producer.close(timeout=max(timeout_s / 2, 0.0))

    def _note_delivery(self, nbytes: int, produced_ms: int, sent_s: float, metadata: Any) -> None:
        if self.skew is not None:
            self.skew.note(produced_ms, getattr(metadata, "timestamp", None), sent_s, time.time())
        self._outcomes.append((nbytes, None))

    def _note_failure(self, nbytes: int, error: Exception) -> None:
        self._outcomes.append((nbytes, error))


def cost_of(message: Outgoing) -> int:
    """Return the bytes of memory that `message` is charged with."""
    return message.nbytes + RECORD_OVERHEAD_BYTES


def _find_thread(client_id: str) -> threading.Thread | None:
    for thread in threading.enumerate():
        if thread.name.startswith(client_id):
            return thread
    return None


def _thread_cpu_seconds(thread: threading.Thread | None) -> float:
    if thread is None or thread.native_id is None:
        return 0.0
    try:
        # First number: nanoseconds on a CPU. Unlike pthread_getcpuclockid, safe when the thread has
        # ended.
        text = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text()
    except OSError:
        return 0.0
    return int(text.split()[0]) / 1e9
