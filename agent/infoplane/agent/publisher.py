"""The publisher: one daemon thread that encodes parcels and hands them to a transport.

It lives inside a training process, so it promises: `offer` never waits; no exception leaves it; a
forked child is silent; the process exits within `exit_timeout_s`, whatever the broker does. It
installs no signal handler.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from infoplane.agent.counters import Counters
from infoplane.agent.delivery import Delivery, count_drop, release
from infoplane.agent.outbox import Outbox, Parcel
from infoplane.agent.transports.base import Outgoing, TransportFactory

__all__ = ["THREAD_NAME", "Parcel", "Publisher"]

THREAD_NAME: Final = "infoplane-publisher"
_POLL_S: Final = 0.25  # an idle poll costs 0.09 ms of CPU
_MARGIN_S: Final = (
    0.25  # of the closing time is left over on a busy machine, so that counts are complete
)
_DRAIN_SHARE: Final = 0.6  # of the closing time goes to the queue, the rest to the transport
_log = logging.getLogger("infoplane.agent")
_live: weakref.WeakSet[Publisher] = weakref.WeakSet()


class Publisher:
    """Takes parcels from the training thread, sends messages from its own.

    Args:
        factory: builds the transport, in the thread.
        counters: where everything sent and dropped is counted.
        beat: builds the periodic messages; called in the thread, first when it starts.
        farewell: builds the last messages; called in the thread, after the queue is empty.
        heartbeat_s: seconds between beats; beats that are late are skipped, not caught up.
        queue_bytes: bytes of parcels that may wait or be in encoding.
        exit_timeout_s: bound of `close` at exit.
        queue_parcels: number of parcels that may wait.
    """

    def __init__(
        self,
        factory: TransportFactory,
        counters: Counters,
        *,
        beat: Callable[[], Sequence[Outgoing]],
        farewell: Callable[[], Sequence[Outgoing]],
        heartbeat_s: float = 5.0,
        queue_bytes: int = 32 << 20,
        exit_timeout_s: float = 3.0,
        queue_parcels: int = 1024,
    ) -> None:
        self._factory = factory
        self._counters = counters
        self._beat = beat
        self._farewell = farewell
        self._heartbeat_s = heartbeat_s
        self._exit_timeout_s = exit_timeout_s
        self._outbox = Outbox(queue_bytes, queue_parcels)
        self._pid = os.getpid()
        self._refusal = "dead"  # why offers are refused; "" while the thread lives
        self._deadline = float("inf")
        self._closing = threading.Event()
        self._closed = threading.Lock()
        self._thread: threading.Thread | None = None
        self._at_exit = partial(_close_at_exit, weakref.ref(self))

    def start(self) -> None:
        """Start the thread. Called once, by the process that will offer."""
        if self._thread is not None:
            return
        self._refusal = ""
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)
        self._thread.start()
        _live.add(self)
        atexit.register(self._at_exit)

    def offer(self, parcel: Parcel) -> bool:
        """Queue `parcel` and return True, or count the drop, release it and return False.

        Takes microseconds either way. In a forked child the parcel is not released: its buffers
        belong to the parent.
        """
        if self._refusal == "fork":
            count_drop(self._counters, "fork", parcel)
            return False
        reason = self._refusal or self._outbox.put(parcel)
        if not reason:
            return True
        count_drop(self._counters, reason, parcel)
        release(parcel, self._counters)
        return False

    def close(self, timeout_s: float | None = None) -> None:
        """Send what is queued and the farewell, end the thread; idempotent, within `timeout_s`."""
        thread = self._thread
        if os.getpid() != self._pid or thread is None or not self._closed.acquire(blocking=False):
            return
        bound = self._exit_timeout_s if timeout_s is None else timeout_s
        self._deadline = time.monotonic() + bound
        self._refusal = self._refusal or "closed"
        self._closing.set()
        self._outbox.close()
        if thread is not threading.current_thread():
            thread.join(bound)
        if thread.is_alive():
            self._counters.add("close_timeouts")
        self._drop_queued("closed")
        # A process may attach and close again and again.
        atexit.unregister(self._at_exit)

    @property
    def alive(self) -> bool:
        """Return whether parcels are being taken."""
        return not self._refusal

    def _silence(self) -> None:
        # After a fork: no thread runs here, locks may be held for ever, buffers belong to the
        # parent.
        self._refusal = "fork"

    # ---------------------------------------------------------------- publisher thread

    def _run(self) -> None:
        delivery = Delivery(self._factory, self._counters)
        try:
            self._serve(delivery)
            self._say_goodbye(delivery)
        except BaseException as error:  # noqa: BLE001 - the last line of defence: training goes on
            _log.warning("infoplane: the publisher thread ended: %s", repr(error))
        finally:
            reason = self._refusal = self._refusal or "dead"
            self._outbox.close()
            self._drop_queued(reason)

    def _serve(self, delivery: Delivery) -> None:
        next_beat = time.monotonic()
        while not self._closing.is_set():
            parcel = self._outbox.take(min(_POLL_S, max(next_beat - time.monotonic(), 0.0)))
            if parcel is not None:
                self._publish(delivery, parcel)
            delivery.poll()
            if time.monotonic() >= next_beat:
                delivery.send_built(self._beat)
                next_beat = time.monotonic() + self._heartbeat_s

    def _say_goodbye(self, delivery: Delivery) -> None:
        now = time.monotonic()
        until = now + _DRAIN_SHARE * (self._deadline - now)
        while time.monotonic() < until and (parcel := self._outbox.take(0.0)) is not None:
            self._publish(delivery, parcel)
        delivery.send_built(self._farewell)
        delivery.close(self._deadline - time.monotonic() - _MARGIN_S)

    def _publish(self, delivery: Delivery, parcel: Parcel) -> None:
        nbytes = parcel.nbytes
        try:
            delivery.publish(parcel)
        finally:
            self._outbox.done(nbytes)

    def _drop_queued(self, reason: str) -> None:
        for parcel in self._outbox.drain():
            count_drop(self._counters, reason, parcel)
            release(parcel, self._counters)


def _close_at_exit(reference: weakref.ref[Publisher]) -> None:
    publisher = reference()
    if publisher is not None:
        publisher.close()


def _silence_all() -> None:
    for publisher in list(_live):
        publisher._silence()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_silence_all)
