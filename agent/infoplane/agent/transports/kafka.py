"""The Kafka transport: bounded in bytes and time, and back when the broker is back."""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections import deque
from typing import Any, Final

from infoplane.agent.counters import Counters
from infoplane.agent.transports.base import Outgoing
from infoplane.agent.transports.connection import Connection, cost_of
from infoplane.agent.transports.quiet import silence_library
from infoplane.agent.transports.skew import ClockSkew
from infoplane.wire.kafka_client import (
    KafkaError,
    MessageSizeTooLargeError,
    PatientClient,
    RecordListTooLargeError,
)

DEFAULTS: Final[dict[str, Any]] = {
    "client_id": "infoplane-agent",
    # Fixed, so that the constructor never asks a broker, and never blocks. Requests of 2.1 are
    # spoken by
    # every broker from 2.1 to 4.x.
    "api_version": (2, 1),
    "acks": 1,
    # An idempotent producer fails for ever once a broker has lost its log; (rank, seq) finds
    # duplicates.
    "enable_idempotence": False,
    "compression_type": "lz4",
    "linger_ms": 20,
    "batch_size": 256 << 10,
    "max_request_size": 4 << 20,
    "max_block_ms": 100,
    "request_timeout_ms": 5_000,
    "delivery_timeout_ms": 15_000,
    "reconnect_backoff_ms": 100,
    "reconnect_backoff_max_ms": 1_000,
    "metrics_enabled": False,
    "kafka_client": PatientClient,
}
_LEARN_EVERY_S: Final = 0.5
_CPU_EVERY_S: Final = 5.0
_FLUSH_AT_ONCE: Final = 32
_UNHEALTHY_AFTER_S: Final = 5.0
_UNHEALTHY_GRACE_S: Final = 1.0
_END_S: Final = 0.4  # of the closing time is kept for the end of the connection
_BACKOFF_S: Final = (1.0, 30.0)
_STUCK_FACTOR: Final = 3
# Faults of one message, which a new producer would not cure.
_OWN_FAULT: Final = (MessageSizeTooLargeError, RecordListTooLargeError)
_log = logging.getLogger("infoplane.agent")


class KafkaTransport:
    """Sends to Kafka without ever waiting for a broker in `send`.

    kafka-python waits in `send` for the partitions of a topic that it does not know, and then takes
    records without a limit. So messages wait here until `poll` has learnt the partitions, and
    everything that waits or is in flight counts against `inflight_bytes`; beyond it, `send`
    refuses.

    Args:
        bootstrap_servers: `host:port[,host:port...]`.
        counters: where outcomes are counted.
        inflight_bytes: bound of the bytes that wait or are in flight.
        rebuild_after: failures in a row, of the kind that does not pass, after which the producer
        is
            replaced (after 1 to 30 s, with jitter).
        settings: KafkaProducer settings on top of `DEFAULTS`, such as security ones.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        counters: Counters,
        *,
        inflight_bytes: int = 32 << 20,
        rebuild_after: int = 8,
        **settings: Any,
    ) -> None:
        self._settings = {**DEFAULTS, **settings, "bootstrap_servers": bootstrap_servers}
        self._expiry_s = self._settings["delivery_timeout_ms"] / 1000
        self._counters = counters
        self._max_bytes = inflight_bytes
        self._rebuild_after = rebuild_after
        self._waiting: dict[str, deque[tuple[float, Outgoing]]] = {}
        self._waiting_bytes = 0
        self._failures = 0
        self._backoff_s = _BACKOFF_S[0]
        self._next_build = self._next_learn = self._next_cpu = 0.0
        self._warned = False
        self._skew = ClockSkew(counters)
        # Built here, so that a wrong setting is the factory's failure.
        self._connection: Connection | None = self._connect()

    @property
    def held_bytes(self) -> int:
        """Return the bytes that wait or are in flight."""
        connection = self._connection
        return self._waiting_bytes + (connection.inflight_bytes if connection else 0)

    def send(self, message: Outgoing) -> bool:
        """Take `message` if the budget allows."""
        if self.held_bytes + cost_of(message) > self._max_bytes:
            self._settle()
            if self.held_bytes + cost_of(message) > self._max_bytes:
                return False
        connection, topic = self._connection, message.topic
        if connection is not None and connection.knows(topic) and topic not in self._waiting:
            if not self._hand_over(connection, message):
                return False
        else:
            self._waiting.setdefault(topic, deque()).append((time.monotonic(), message))
            self._waiting_bytes += cost_of(message)
        self._counters.add("records_sent")
        self._counters.add("bytes_sent", value=message.nbytes)
        return True

    def poll(self) -> None:
        """Settle outcomes, learn partitions, send what waited, replace a broken producer."""
        self._settle()
        self._heal()
        if self._waiting:
            self._expire()
            self._learn()
            self._flush_waiting(_FLUSH_AT_ONCE)
        now = time.monotonic()
        if now >= self._next_cpu:
            self._next_cpu = now + _CPU_EVERY_S
            self._count_cpu()
            self._skew.publish()

    def close(self, timeout_s: float) -> None:
        """Deliver what can be delivered in `timeout_s` (1 s if the broker is silent), then end."""
        # The end of the connection needs time too, or nobody would be left to count what it loses.
        deadline = time.monotonic() + max(self._grace_s(timeout_s) - _END_S, 0.0)
        while self.held_bytes and time.monotonic() < deadline:
            self._settle()
            if self._waiting:
                self._learn()
                self._flush_waiting(_FLUSH_AT_ONCE)
            time.sleep(0.005)
        self._count_cpu()
        for queue in self._waiting.values():
            self._counters.add("records_dropped", "delivery", len(queue))
        self._waiting.clear()
        self._waiting_bytes = 0
        self._drop_connection(_END_S / 2)
        self._next_build = float("inf")

    def _connect(self) -> Connection:
        connection = Connection(self._settings)
        connection.skew = self._skew
        silence_library()
        return connection

    def _hand_over(self, connection: Connection, message: Outgoing) -> bool:
        try:
            connection.send(message)
        except Exception as error:  # noqa: BLE001 - ValueError and AssertionError among them
            self._note_failure(error)
            return False
        return True

    def _settle(self) -> None:
        if self._connection is None:
            return
        for error in self._connection.settle():
            if error is None:
                self._counters.add("records_delivered")
                self._failures = 0
                self._backoff_s = _BACKOFF_S[0]
                self._note_recovery()
            else:
                self._counters.add("records_dropped", "delivery")
                self._note_failure(error)

    def _note_failure(self, error: Exception) -> None:
        if not self._warned:
            self._warned = True
            # Text, not the error: handlers may keep it, and its traceback holds on to sockets.
            text = repr(error)
            _log.warning("infoplane: messages do not reach Kafka: %s; drops are counted", text)
        if not getattr(error, "retriable", False) and not isinstance(error, _OWN_FAULT):
            self._failures += 1

    def _note_recovery(self) -> None:
        if self._warned:
            self._warned = False
            _log.warning("infoplane: messages reach Kafka again")

    def _heal(self) -> None:
        connection = self._connection
        if connection is not None and (
            self._failures >= self._rebuild_after
            or not connection.alive
            or connection.silent_seconds() > _STUCK_FACTOR * self._expiry_s
        ):
            self._drop_connection(0.0)
            jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads ranks, hides nothing
            self._next_build = time.monotonic() + self._backoff_s * jitter
            self._backoff_s = min(2 * self._backoff_s, _BACKOFF_S[1])
        if self._connection is None and time.monotonic() >= self._next_build:
            self._connection = self._connect()
            self._failures = 0
            self._counters.add("producer_rebuilds")

    def _drop_connection(self, timeout_s: float) -> None:
        connection = self._connection
        if connection is None:
            return
        connection.close(timeout_s)
        self._settle()
        self._connection = None
        if connection.inflight_records:
            self._counters.add("records_dropped", "delivery", connection.inflight_records)

    def _learn(self) -> None:
        """Ask for the partitions of one topic that messages wait for, twice a second at most."""
        connection = self._connection
        now = time.monotonic()
        unknown = [topic for topic in self._waiting if connection and not connection.knows(topic)]
        if connection is None or not unknown or now < self._next_learn:
            return
        try:
            connection.learn(random.choice(unknown))  # noqa: S311 - fairness, not secrecy
        except KafkaError as error:
            self._next_learn = time.monotonic() + _LEARN_EVERY_S
            self._note_failure(error)

    def _flush_waiting(self, limit: int) -> None:
        connection = self._connection
        for topic in [t for t in self._waiting if connection and connection.knows(t)]:
            queue = self._waiting[topic]
            while queue and limit > 0:
                _, message = queue.popleft()
                self._waiting_bytes -= cost_of(message)
                if connection is None or not self._hand_over(connection, message):
                    self._counters.add("records_dropped", "delivery")
                limit -= 1
                time.sleep(0)  # lets the training thread have the GIL
            if not queue:
                del self._waiting[topic]

    def _expire(self) -> None:
        oldest = time.monotonic() - self._expiry_s
        for topic, queue in list(self._waiting.items()):
            while queue and queue[0][0] < oldest:
                self._waiting_bytes -= cost_of(queue.popleft()[1])
                self._counters.add("records_dropped", "delivery")
            if not queue:
                del self._waiting[topic]

    def _grace_s(self, timeout_s: float) -> float:
        connection = self._connection
        recent = time.monotonic() - _UNHEALTHY_AFTER_S
        healthy = (
            connection is not None and max(connection.last_delivery, connection.created) > recent
        )
        return timeout_s if healthy else min(timeout_s, _UNHEALTHY_GRACE_S)

    def _count_cpu(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError, ValueError):
                self._counters.add("transport_cpu_seconds", value=self._connection.cpu_seconds())
