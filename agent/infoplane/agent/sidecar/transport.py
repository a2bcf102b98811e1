"""The rank's side of the sidecar: a transport that lays messages into the ring."""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import subprocess
import time
from typing import Final

from infoplane.agent.counters import Counters
from infoplane.agent.sidecar import protocol
from infoplane.agent.sidecar.ring import Ring
from infoplane.agent.sidecar.start import Start, launch
from infoplane.agent.transports.base import Outgoing

RESTARTS: Final = 3
_RESTART_AFTER_S: Final = (0.0, 5.0, 30.0)
_MARGIN_S: Final = 0.3  # of the closing time, for the sidecar to report and end
_MAX_WAITING: Final = 8192  # messages in the ring
_log = logging.getLogger("infoplane.agent")


class SidecarTransport:
    """Hands messages to a process of its own, which batches, compresses, checksums, sends and retries.

    `send` costs a copy of the message, about 0.1 ms per MB. A sidecar that dies is started again, three times.

    Args:
        start: what the sidecar is told.
        counters: where its counts are added.
        ring_bytes: size of the shared memory.

    Attributes:
        refusal: why `send` returned False the last time: ring_full or sidecar_dead.
    """

    def __init__(self, start: Start, counters: Counters, *, ring_bytes: int) -> None:
        self.refusal = ""
        self._start = start
        self._counters = counters
        self._ring = Ring.create(ring_bytes)
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._frames = protocol.Frames()
        self._unsaid = bytearray()
        self._handed = self._settled = 0.0  # messages of this sidecar, and those whose end is known
        self._starts = 0
        self._next_start = 0.0
        self._is_done = False
        # Nothing acknowledges what is thrown away.
        sent = "records_sent" if start.settings.transport == "none" else "records_delivered"
        self._ends = (sent, "records_dropped")
        try:
            self._begin()
        except OSError:
            self._ring.close()
            raise

    @property
    def pid(self) -> int | None:
        """Process id of the sidecar; None while there is none."""
        return self._process.pid if self._process else None

    def send(self, message: Outgoing) -> bool:
        """Lay `message` into the ring; never waits."""
        self._care()
        if self._connection is None:
            self.refusal = "sidecar_dead"
            return False
        parts = protocol.lay_out(message)
        place = self._ring.place(parts) if len(self._ring) < _MAX_WAITING else None
        if place is None:
            self.refusal = "ring_full"
            return False
        self._handed += 1
        self._say(protocol.frame(protocol.MESSAGE, sum(len(part) for part in parts), place))
        return True

    def poll(self) -> None:
        """Take reports in; bury a dead sidecar and start another."""
        self._care()

    def close(self, timeout_s: float) -> None:
        """Let the sidecar send what it has, within `timeout_s`; then it is ended."""
        deadline = time.monotonic() + timeout_s
        left_ms = int(1000 * max(timeout_s - _MARGIN_S, 0.0))
        self._say(protocol.frame(protocol.END, left_ms))
        while self._connection is not None and not self._is_done:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            wants = [self._connection] if self._unsaid else []
            select.select([self._connection], wants, [], min(left_s, 0.1))
            self._say(b"")
            self._hear()
        self._end(max(deadline - time.monotonic(), 0.0))
        self._ring.close()

    # ---------------------------------------------------------------- life and death

    def _begin(self) -> None:
        self._starts += 1
        self._process, self._connection = launch(self._ring)
        self._frames, self._unsaid = protocol.Frames(), bytearray()
        self._handed = self._settled = 0.0
        told = self._start.to_bytes()
        place = self._ring.place([told])
        self._say(protocol.frame(protocol.BEGIN, len(told), place or 0))

    def _care(self) -> None:
        """Hear what the sidecar says, and replace it if it is dead."""
        if self._process is not None:
            self._say(b"")
            self._hear()
            if self._process.poll() is not None:
                self._bury()
        if self._process is None and self._starts <= RESTARTS and self._is_time():
            self._counters.add("sidecar_restarts")
            self._begin()

    def _is_time(self) -> bool:
        return time.monotonic() >= self._next_start

    def _bury(self) -> None:
        died = self._process
        self._end(0.0)
        self._ring.clear()
        number = min(self._starts, len(_RESTART_AFTER_S)) - 1
        self._next_start = time.monotonic() + _RESTART_AFTER_S[number]
        will = (
            "it is started again" if self._starts <= RESTARTS else "records are dropped from now on"
        )
        code = died.returncode if died else None
        _log.warning("infoplane: the sidecar ended with code %s; %s", code, will)

    def _end(self, timeout_s: float) -> None:
        """Hear the last words, end the process, and count what it leaves unsettled."""
        process, connection = self._process, self._connection
        if process is None or connection is None:
            return
        try:
            process.wait(timeout_s if self._is_done else 0.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._hear()
        self._process = self._connection = None
        connection.close()
        lost = self._handed - self._settled
        if lost > 0:
            self._counters.add("records_dropped", "sidecar_dead", lost)

    # ---------------------------------------------------------------- talking

    def _say(self, data: bytes) -> None:
        """Send `data` after what is still unsaid, as far as the socket takes it now."""
        self._unsaid += data
        if self._connection is None or not self._unsaid:
            return
        with contextlib.suppress(OSError):  # full, or dead, which `_care` sees
            del self._unsaid[: self._connection.send(self._unsaid)]

    def _hear(self) -> None:
        while self._connection is not None:
            try:
                data = self._connection.recv(1 << 16)
            except OSError:
                return
            if not data:
                return
            for kind, amount, _, body in self._frames.feed(data):
                self._take_in(kind, amount, body)

    def _take_in(self, kind: int, amount: int, body: bytes) -> None:
        if kind == protocol.TAKEN:
            self._ring.free(amount)
        elif kind == protocol.DONE:
            self._is_done = True
        elif kind == protocol.COUNTS:
            for name, reason, value in protocol.read_counts(body):
                self._counters.add(name, reason, value)
                if name in self._ends:
                    self._settled += value
