"""Reads `latest`, `results`, `verdicts` and `audit` into the store and counts `dead`, in a thread of its own.

There is no consumer group: every exporter reads everything, from the beginning, and commits nothing. `latest` gives
every series its newest value within one fetch, `results` the page's history.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from infoplane.collector.drivers.client import client_settings
from infoplane.collector.settings import KafkaSection
from infoplane.exporter.store import Store
from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.errors import DecodeError
from infoplane.wire.frame import REASONS
from infoplane.wire.kafka_client import KafkaConsumer, KafkaError, TopicPartition
from infoplane.wire.topics import AUDIT, DEAD, LATEST, RESULTS, VERDICTS, Topic

_LOG: Final = logging.getLogger(__name__)
_TOPICS: Final = (LATEST, RESULTS, VERDICTS, AUDIT, DEAD)
_POLL_MS: Final = 200
_LOOK_S: Final = 2.0
_PAUSE_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class FeedStatus:
    """How the reading goes. Counts are since the process began."""

    connected: bool
    missing: tuple[str, ...]
    messages: dict[str, int]
    errors: dict[str, int]
    dead: dict[str, int]  # letters that the stages wrote, by reason
    reconnects: int
    detail: str


class Feed:
    """One thread, one consumer. `start` once, `stop` once; the status may be read from anywhere."""

    def __init__(self, kafka: KafkaSection, store: Store) -> None:
        self._kafka = kafka
        self._store = store
        self._topics = {kafka.names.of(topic): topic for topic in _TOPICS}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="infoplane-feed", daemon=True)
        self._lock = threading.Lock()
        self._messages: Counter[str] = Counter({topic.name: 0 for topic in _TOPICS})
        self._errors: Counter[str] = Counter()
        self._dead: Counter[str] = Counter()
        self._connected = False
        self._missing: tuple[str, ...] = tuple(self._topics)
        self._reconnects = 0
        self._detail = "not connected yet"

    def start(self) -> None:
        """Begin to read; returns at once, with or without a broker."""
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread, waiting at most `timeout_s`."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def status(self) -> FeedStatus:
        """Return how the reading goes."""
        with self._lock:
            return FeedStatus(
                self._connected,
                self._missing,
                dict(self._messages),
                dict(self._errors),
                dict(self._dead),
                self._reconnects,
                self._detail,
            )

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                self._read()
            except (KafkaError, OSError) as error:
                self._say(False, f"no broker at {self._kafka.bootstrap_servers}: {error}")
                self._reconnects += 1
            failures = 0 if time.monotonic() - begun > _PAUSE_S[-1] else failures + 1
            self._stop.wait(_PAUSE_S[min(failures, len(_PAUSE_S)) - 1])

    def _read(self) -> None:
        consumer = KafkaConsumer(
            **client_settings(self._kafka),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            allow_auto_create_topics=False,
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=8 << 20,
            max_poll_records=2000,
            bootstrap_timeout_ms=3000,
        )
        try:
            self._follow(consumer)
        finally:
            consumer.close()

    def _follow(self, consumer: Any) -> None:
        look_at = 0.0
        while not self._stop.is_set():
            if time.monotonic() >= look_at:
                self._assign(consumer)
                self._rewind(consumer)
                look_at = time.monotonic() + _LOOK_S
            if not consumer.assignment():
                self._stop.wait(_POLL_MS / 1000)
                continue
            for partition, records in consumer.poll(timeout_ms=_POLL_MS).items():
                for record in records:
                    self._take(self._topics[partition.topic], record)

    def _assign(self, consumer: Any) -> None:
        """Read every partition there is; topics and partitions may appear while we run."""
        there = consumer.topics() & self._topics.keys()
        found = [
            TopicPartition(topic, partition)
            for topic in sorted(there)
            for partition in sorted(consumer.partitions_for_topic(topic) or ())
        ]
        if found and set(found) != consumer.assignment():
            consumer.assign(found)  # keeps the positions of those that it already reads
        missing = tuple(sorted(self._topics.keys() - there))
        self._say(True, f"waiting for topics: {', '.join(missing)}" if missing else "", missing)

    def _rewind(self, consumer: Any) -> None:
        """Begin again where a log became shorter than we have read: its broker lost it."""
        for partition in consumer.assignment():
            # Not end_offsets: Tansu's answer is the start of the last batch. The fetch response knows.
            end = consumer.highwater(partition)
            if end is not None and end < consumer.position(partition):
                _LOG.warning("%s is shorter than before, reading it again", partition.topic)
                consumer.seek_to_beginning(partition)

    def _take(self, topic: Topic, record: Any) -> None:
        with self._lock:
            self._messages[topic.name] += 1
        if record.value is None:  # a tombstone of a compacted topic
            return
        arrived_s = record.timestamp / 1000 if record.timestamp > 0 else None
        try:
            if topic is DEAD:
                self._count_dead(decode(record.value, pb.DeadLetter))
            elif topic is VERDICTS:
                self._store.add_verdict(decode(record.value, pb.Verdict), arrived_s)
            elif topic is AUDIT:
                self._store.add_audit(decode(record.value, pb.AuditEntry), arrived_s)
            else:
                self._store.add(decode(record.value, pb.Result), arrived_s)
        except DecodeError as error:
            with self._lock:
                self._errors[error.reason] += 1

    def _count_dead(self, letter: pb.DeadLetter) -> None:
        with self._lock:
            self._dead[letter.reason if letter.reason in REASONS else "error"] += 1

    def _say(self, connected: bool, detail: str, missing: tuple[str, ...] = ()) -> None:
        with self._lock:
            changed = (connected, detail) != (self._connected, self._detail)
            self._connected, self._detail, self._missing = connected, detail, missing
        if changed:
            level = logging.INFO if connected and not missing else logging.WARNING
            _LOG.log(level, "feed: %s", detail or "reading all topics")
