"""What the publisher thread does with a parcel: encode, send, release, count what fails."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

from infoplane.agent.counters import Counters
from infoplane.agent.outbox import Parcel
from infoplane.agent.transports.base import Outgoing, Transport, TransportFactory

_RETRY_S: Final = 5.0
_log = logging.getLogger("infoplane.agent")


class Delivery:
    """The single-threaded half of the publisher. No method raises an Exception.

    The transport is built on first use, so it belongs to the thread and the process that use it; a
    factory that fails is asked again every 5 s.
    """

    def __init__(self, factory: TransportFactory, counters: Counters) -> None:
        self._factory = factory
        self._counters = counters
        self._transport: Transport | None = None
        self._next_try = 0.0
        self._cpu = time.thread_time()
        self._warned = False

    def publish(self, parcel: Parcel) -> None:
        """Encode and send `parcel`, and release it whatever happens."""
        try:
            messages = parcel.encode()
        except Exception as error:  # noqa: BLE001 - a broken sketch must not end the thread
            self._fault("encode", error)
            count_drop(self._counters, "encode", parcel)
            messages = ()
        finally:
            release(parcel, self._counters)
        self.send_all(messages)
        self.count_cpu()

    def send_all(self, messages: Sequence[Outgoing]) -> None:
        """Send `messages` in order; count those that the transport refuses."""
        for message in messages:
            self._count(message, self._send(message))
            # Lets the training thread have the GIL now rather than after a switch interval of 5 ms.
            time.sleep(0)

    def send_built(self, build: Callable[[], Sequence[Outgoing]]) -> None:
        """Build and send the messages of a heartbeat or a farewell."""
        self.count_cpu()
        try:
            messages = build()
        except Exception as error:  # noqa: BLE001 - a broken heartbeat must not end the thread
            self._fault("beat", error)
            self._counters.add("beat_errors", type(error).__name__)
            return
        self.send_all(messages)

    def poll(self) -> None:
        """Let the transport do its house-keeping."""
        transport = self._ready()
        if transport is None:
            return
        try:
            transport.poll()
        except Exception as error:  # noqa: BLE001 - counted; the transport may recover
            self._fault("transport", error)
            self._counters.add("transport_errors", type(error).__name__)

    def close(self, timeout_s: float) -> None:
        """Flush and close the transport, if there is one."""
        transport, self._transport = self._transport, None
        self._next_try = float("inf")
        if transport is not None:
            try:
                transport.close(max(timeout_s, 0.0))
            except Exception as error:  # noqa: BLE001 - counted; the process is about to end anyway
                self._fault("transport", error)
                self._counters.add("transport_errors", type(error).__name__)
        self.count_cpu()

    def count_cpu(self) -> None:
        """Add this thread's CPU time since the last call to the counters."""
        now = time.thread_time()
        self._counters.add("publisher_cpu_seconds", value=now - self._cpu)
        self._cpu = now

    def _count(self, message: Outgoing, reason: str) -> None:
        if reason:
            self._counters.add("records_dropped", reason)
        if message.events and reason:
            self._counters.add("events_dropped", reason, message.events)
        elif message.events:
            self._counters.add("events_sent", value=message.events)

    def _send(self, message: Outgoing) -> str:
        transport = self._ready()
        if transport is None:
            return "no_transport"
        try:
            if transport.send(message):
                return ""
            # A transport that knows better why says so.
            return str(getattr(transport, "refusal", "not_accepted"))
        except Exception as error:  # noqa: BLE001 - counted; the next message may pass
            self._fault("transport", error)
            self._counters.add("transport_errors", type(error).__name__)
            return "not_accepted"

    def _ready(self) -> Transport | None:
        if self._transport is None and time.monotonic() >= self._next_try:
            try:
                self._transport = self._factory(self._counters)
            except Exception as error:  # noqa: BLE001 - counted, and tried again later
                self._fault("transport", error)
                self._counters.add("transport_errors", type(error).__name__)
                self._next_try = time.monotonic() + _RETRY_S
        return self._transport

    def _fault(self, what: str, error: Exception) -> None:
        # Once: a training log is no place for a message per step. The counters keep the score.
        if not self._warned:
            self._warned = True
            _log.warning(
                "infoplane: %s failed: %s; further faults are only counted", what, repr(error)
            )


def release(parcel: Parcel, counters: Counters) -> None:
    """Release `parcel`; count the error if that fails."""
    try:
        parcel.release()
    except Exception as error:  # noqa: BLE001 - never into training
        counters.add("release_errors", type(error).__name__)


def count_drop(counters: Counters, reason: str, parcel: Parcel) -> None:
    """Count a parcel that was dropped whole: its records, and besides its `events` where it has any."""
    counters.add("records_dropped", reason, records_of(parcel))
    events = getattr(parcel, "events", 0)
    if events:
        counters.add("events_dropped", reason, events)


def records_of(parcel: Parcel) -> int:
    """Return how many records `parcel` stands for: its `records` attribute, else 1."""
    return int(getattr(parcel, "records", 1))
