"""Where commands come from: on rank 0, the topic `control`."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from infoplane.agent.settings import KafkaSettings
from infoplane.agent.transports.quiet import CLIENT_PREFIX, silence_library
from infoplane.wire import encode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.topics import CONTROL, Names, run_key

Deliver = Callable[[bytes], bool]
THREAD_NAME: Final = f"{CLIENT_PREFIX}control-reader"
_POLL_MS: Final = 250
_LOOK_S: Final = 1.0  # between two looks for the topic
_PAUSE_S: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
# So that a flood of rubbish in the topic costs rank 0 little, and the trail of its refusals too.
_PER_S: Final = 200.0
_numbers = itertools.count()
_log = logging.getLogger("infoplane.agent")


class CommandSource(Protocol):
    """Hands over framed SignedCommands, in order."""

    def start(self, deliver: Deliver) -> None:
        """Begin to call `deliver`, from one thread; what it answers False to is offered again."""
        ...

    def close(self, timeout_s: float) -> None:
        """Stop calling it, within `timeout_s`."""
        ...


class MemorySource:
    """Hands over what is put into it: for tests."""

    def __init__(self) -> None:
        self._deliver: Deliver | None = None
        self._held: deque[bytes] = deque()

    def put(self, signed: pb.SignedCommand) -> None:
        """Hand `signed` over now, or as soon as there is somebody to take it."""
        self.put_raw(encode(signed))

    def put_raw(self, raw: bytes) -> None:
        """Hand over any bytes."""
        self._held.append(raw)
        self._flush()

    def start(self, deliver: Deliver) -> None:
        """Hand over what waits."""
        self._deliver = deliver
        self._flush()

    def close(self, timeout_s: float) -> None:
        """Hand over nothing more."""
        self._deliver = None

    def _flush(self) -> None:
        while self._held and self._deliver is not None and self._deliver(self._held[0]):
            self._held.popleft()


class KafkaSource:
    """Follows the topic `control` from its end, in a thread; whatever the broker does costs training nothing.

    What was sent before the thread first saw the topic is not read. While a broker is away the
    position is kept; commands that expired meanwhile are refused.
    """

    def __init__(self, kafka: KafkaSettings, run: str) -> None:
        self._kafka = kafka
        self._topic = Names(kafka.topic_prefix).of(CONTROL)
        self._key = run_key(run)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._has_warned = False

    def start(self, deliver: Deliver) -> None:
        """Begin to read; returns at once, with or without a broker."""
        self._thread = threading.Thread(
            target=self._run, args=(deliver,), name=THREAD_NAME, daemon=True
        )
        self._thread.start()

    def close(self, timeout_s: float) -> None:
        """End the thread, waiting at most `timeout_s`."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    # ---------------------------------------------------------------- own thread

    def _run(self, deliver: Deliver) -> None:
        failures = 0
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                self._read(deliver)
            except Exception as error:  # noqa: BLE001 - a reader that dies must not be silent
                self._warn(error)
            failures = 0 if time.monotonic() - begun > _PAUSE_S[-1] else failures + 1
            self._stop.wait(_PAUSE_S[min(failures, len(_PAUSE_S)) - 1])

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            _log.warning("infoplane: commands cannot be read: %s; tried again quietly", repr(error))

    def _read(self, deliver: Deliver) -> None:
        consumer = self._consumer()
        try:
            while not self._stop.is_set() and not self._assign(consumer):
                self._stop.wait(_LOOK_S)
            self._follow(consumer, deliver)
        finally:
            consumer.close(timeout_ms=500)

    def _follow(self, consumer: Any, deliver: Deliver) -> None:
        look_at = 0.0
        while not self._stop.is_set():
            for records in consumer.poll(timeout_ms=_POLL_MS, max_records=50).values():
                for record in records:
                    self._take(record, deliver)
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + _LOOK_S
                self._rewind(consumer)

    def _rewind(self, consumer: Any) -> None:
        """Begin again where a log became shorter than we have read: its broker lost it. The gate knows replays."""
        for partition in consumer.assignment():
            end = consumer.highwater(partition)
            if end is not None and end < consumer.position(partition):
                consumer.seek_to_beginning(partition)

    def _consumer(self) -> Any:
        from infoplane.wire.kafka_client import KafkaConsumer, PatientClient

        version: dict[str, Any] = {}
        if self._kafka.api_version != "auto":
            numbers = self._kafka.api_version.split(".")
            version["api_version"] = tuple(int(number) for number in numbers)
        consumer = KafkaConsumer(
            bootstrap_servers=self._kafka.bootstrap_servers,
            client_id=f"{THREAD_NAME}-{os.getpid()}-{next(_numbers)}",
            kafka_client=PatientClient,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            allow_auto_create_topics=False,
            reconnect_backoff_ms=500,
            reconnect_backoff_max_ms=5_000,
            bootstrap_timeout_ms=3000,
            metrics_enabled=False,
            **version,
        )
        silence_library()
        return consumer

    def _assign(self, consumer: Any) -> bool:
        from infoplane.wire.kafka_client import TopicPartition

        consumer.topics()  # asks the broker; partitions_for_topic alone looks at what is cached
        found = sorted(consumer.partitions_for_topic(self._topic) or ())
        if found:
            consumer.assign([TopicPartition(self._topic, partition) for partition in found])
            consumer.seek_to_end()
        return bool(found)

    def _take(self, record: Any, deliver: Deliver) -> None:
        if record.key != self._key or record.value is None:
            return
        while not deliver(record.value) and not self._stop.wait(0.2):
            pass
        self._stop.wait(1 / _PER_S)
