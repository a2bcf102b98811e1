"""Follows topics from their beginning, without a consumer group: for watching, never for processing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.message import Message
from kafka import KafkaConsumer, TopicPartition

from infoplane.collector.drivers.client import client_settings
from infoplane.collector.settings import KafkaSection
from infoplane.wire import DecodeError, decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.errors import TransportError
from infoplane.wire.log import LogEntry
from infoplane.wire.topics import (
    AUDIT,
    CONFIG,
    CONTROL,
    EVENTS,
    LATEST,
    RECORDS,
    RESULTS,
    VERDICTS,
    WINDOWS,
    Topic,
)

_TYPES: Final[dict[str, type[Message]]] = {
    RECORDS.name: pb.Record,
    EVENTS.name: pb.EventBatch,
    WINDOWS.name: pb.WindowPane,
    RESULTS.name: pb.Result,
    LATEST.name: pb.Result,
    VERDICTS.name: pb.Verdict,
    CONTROL.name: pb.SignedCommand,
    AUDIT.name: pb.AuditEntry,
    CONFIG.name: pb.AgentConfig,
}
_MAX_FETCH_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Read:
    """One message as it stood in its topic."""

    topic: Topic
    entry: LogEntry

    def message(self) -> Message | None:
        """Return the decoded message; None if it cannot be read or its topic holds no single kind."""
        kind = _TYPES.get(self.topic.name)
        try:
            return decode(self.entry.value, kind) if kind is not None else None
        except DecodeError:
            return None


class TopicReader:
    """Reads `topics` from their beginning.

    Raises:
        TransportError: one of them does not exist.
    """

    def __init__(self, kafka: KafkaSection, topics: Sequence[Topic]) -> None:
        self._topics = {kafka.names.of(topic): topic for topic in topics}
        self._consumer: Any = KafkaConsumer(
            **client_settings(kafka),
            group_id=None,
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=_MAX_FETCH_BYTES,
        )
        self._places = [
            TopicPartition(name, number)
            for name in self._topics
            for number in self._consumer.partitions_for_topic(name) or ()
        ]
        missing = self._topics.keys() - {place.topic for place in self._places}
        if missing:
            self._consumer.close(autocommit=False, timeout_ms=1_000)
            raise TransportError(f"topics are missing: {', '.join(sorted(missing))}")
        self._consumer.assign(self._places)
        self._consumer.seek_to_beginning(*self._places)

    def poll(self, timeout_ms: int = 0) -> list[Read]:
        """Return what came, waiting at most `timeout_ms` for the first."""
        batches = self._consumer.poll(timeout_ms=timeout_ms)
        return [
            Read(
                self._topics[one.topic],
                LogEntry(
                    one.topic,
                    one.partition,
                    one.offset,
                    one.timestamp,
                    one.key or b"",
                    one.value or b"",
                ),
            )
            for messages in batches.values()
            for one in messages
        ]

    def skip_to_last(self) -> None:
        """Stand before the last message, or batch of messages, of every partition."""
        ends = self._consumer.end_offsets(self._places)
        for place in self._places:
            self._consumer.seek(place, max(0, ends[place] - 1))

    @property
    def is_at_end(self) -> bool:
        """Whether everything that the last fetches saw has been returned."""
        # Not end_offsets: some brokers answer it wrongly; the high-water mark of a fetch is right.
        ends = {place: self._consumer.highwater(place) for place in self._places}
        return all(
            end is not None and self._consumer.position(place) >= end for place, end in ends.items()
        )

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close(autocommit=False, timeout_ms=1_000)


def newest_record_ms(kafka: KafkaSection) -> int | None:
    """Return the timestamp of the newest record, None while there is none."""
    reader = TopicReader(kafka, (RECORDS,))
    try:
        reader.skip_to_last()
        times = [read.entry.timestamp_ms for _ in range(5) for read in reader.poll(300)]
    finally:
        reader.close()
    return max(times, default=None)
