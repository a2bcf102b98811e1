"""What runs in the sidecar: takes messages out of the ring and hands them to the transport."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import time
from typing import Final

from infoplane.agent.counters import Counters
from infoplane.agent.delivery import Delivery
from infoplane.agent.outlet import transport_of
from infoplane.agent.sidecar import protocol
from infoplane.agent.sidecar.ring import Ring
from infoplane.agent.sidecar.start import Start

_POLL_S: Final = 0.25
_REPORT_S: Final = 1.0
_AT_ONCE: Final = 16  # frames read before the transport gets its turn
_log = logging.getLogger("infoplane.agent")


def main(talk: int, ring: int, nbytes: int, parent: int) -> None:
    """Serve until the rank says END or is gone. The first two are file descriptors."""
    # Whoever interrupts or ends a job reaches its whole process group; the rank says when to go.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    with socket.socket(fileno=talk) as connection:
        Service(connection, Ring(ring, nbytes), parent).run()


class Service:
    """One sidecar.

    Args:
        connection: to the rank.
        ring: where messages lie.
        parent: process id of the rank.
    """

    def __init__(self, connection: socket.socket, ring: Ring, parent: int) -> None:
        self._connection = connection
        self._ring = ring
        self._parent = parent
        self._counters = Counters()
        self._reported: protocol.Totals = {}
        self._next_report = 0.0
        self._delivery: Delivery | None = None
        self._left_s = 0.0  # for the end
        self._is_over = False

    def run(self) -> None:
        """Serve, then settle everything in the time that is left."""
        frames = protocol.Frames()
        while not self._is_over:
            if select.select([self._connection], [], [], _POLL_S)[0]:
                data = self._receive()
                self._is_over = not data
                for kind, amount, place, _ in frames.feed(data):
                    self._obey(kind, amount, place)
            if self._delivery is not None:
                self._delivery.poll()
            if time.monotonic() >= self._next_report:
                self._report()
            # A worker forked by the rank keeps the socket open, so its end alone does not tell.
            if os.getppid() != self._parent:
                self._is_over = True
        if self._delivery is not None:
            self._delivery.close(self._left_s)
        self._report()
        self._say(protocol.frame(protocol.DONE))

    def _obey(self, kind: int, amount: int, place: int) -> None:
        if kind == protocol.MESSAGE and self._delivery is not None:
            message = protocol.read_message(self._ring.read(place, amount))
            self._say(protocol.frame(protocol.TAKEN, 1))
            self._delivery.send_all([message])
        elif kind == protocol.BEGIN:
            start = Start.from_bytes(self._ring.read(place, amount))
            self._say(protocol.frame(protocol.TAKEN, 1))
            factory = transport_of(start.settings, start.run, start.rank)
            self._delivery = Delivery(factory, self._counters)
            self._left_s = start.settings.exit_timeout_s
        elif kind == protocol.END:
            self._left_s = amount / 1000
            self._is_over = True

    def _report(self) -> None:
        self._next_report = time.monotonic() + _REPORT_S
        if self._delivery is not None:
            self._delivery.count_cpu()
        now = self._counters.snapshot()
        self._say(protocol.counts_frame(self._reported, now))
        self._reported = now

    def _receive(self) -> bytes:
        try:
            return self._connection.recv(_AT_ONCE * protocol.FRAME_BYTES)
        except OSError:
            return b""

    def _say(self, data: bytes) -> None:
        try:
            self._connection.sendall(data)
        except OSError:
            self._is_over = True
