"""The queue between the training thread and the publisher thread: bounded, and never waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

from infoplane.agent.transports.base import Outgoing


class Parcel(Protocol):
    """A piece of captured data on its way out, with the buffers it borrows."""

    @property
    def nbytes(self) -> int:
        """Return the bytes that the parcel holds on to."""
        ...

    def encode(self) -> Sequence[Outgoing]:
        """Return the messages; runs in the publisher thread."""
        ...

    def release(self) -> None:
        """Give the borrowed buffers back; called exactly once.

        It runs in the publisher thread, or in the caller of `offer` if that refuses.
        """
        ...


class Outbox:
    """First in, first out, bounded by bytes and parcels; what does not fit is refused.

    The only lock is among those that put, so the publisher thread can never hold up the training
    thread by losing the GIL inside a critical section. Both counts have one writer side each: the
    putters, and the taker.
    """

    def __init__(self, max_bytes: int, max_parcels: int) -> None:
        self._max_bytes = max_bytes
        self._max_parcels = max_parcels
        self._queue: SimpleQueue[Parcel | None] = SimpleQueue()
        self._putting = threading.Lock()
        self._closed = False
        self._bytes_in = self._bytes_out = 0
        self._parcels_in = self._parcels_out = 0

    def put(self, parcel: Parcel) -> str:
        """Queue `parcel` and return "", or return the reason why not."""
        nbytes = parcel.nbytes
        with self._putting:
            if self._closed:
                return "closed"
            if self._parcels_in - self._parcels_out >= self._max_parcels:
                return "queue_full"
            if self._bytes_in - self._bytes_out + nbytes > self._max_bytes:
                return "byte_budget"
            self._bytes_in += nbytes
            self._parcels_in += 1
            self._queue.put(parcel)
        return ""

    def take(self, timeout_s: float) -> Parcel | None:
        """Return the next parcel, or None after `timeout_s` or when woken by `close`."""
        try:
            parcel = self._queue.get(timeout_s > 0, max(timeout_s, 0.0))
        except Empty:
            return None
        if parcel is not None:
            self._parcels_out += 1
        return parcel

    def done(self, nbytes: int) -> None:
        """Give back the bytes of a parcel that was taken and has been released."""
        self._bytes_out += nbytes

    def close(self) -> None:
        """Refuse everything from now on, and wake the taker."""
        with self._putting:
            self._closed = True
        self._queue.put(None)

    def drain(self) -> Iterator[Parcel]:
        """Yield what is left after `close`; of several threads, one gets each parcel."""
        while True:
            try:
                parcel = self._queue.get_nowait()
            except Empty:
                return
            if parcel is not None:
                yield parcel

    @property
    def queued_bytes(self) -> int:
        """Return the bytes put and not done yet."""
        return self._bytes_in - self._bytes_out

    def __len__(self) -> int:
        return self._parcels_in - self._parcels_out
