"""A process that the command starts: its own process group, its own log, and bound to our life."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from infoplane.cli import lifeline
from infoplane.wire.errors import InfoplaneError

_TAIL_LINES: Final = 15
_POLL_S: Final = 0.02


class ChildError(InfoplaneError):
    """A process that the command started ended too early; the message shows the end of its log."""


class Child:
    """One started process. The kernel kills it when the thread that started it ends (Linux).

    Args:
        name: what people call it; also the name of its log.
        command: the program and its arguments.
        directory: where its `NAME.log` (stderr) and `NAME.out` (stdout) go.
        environment: variables besides ours.
        niceness: how much its priority is lowered.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        directory: Path,
        *,
        environment: Mapping[str, str] | None = None,
        niceness: int = 0,
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        self.output = directory / f"{name}.out"
        guard = [sys.executable, "-I", "-S", lifeline.__file__, str(os.getpid()), str(niceness)]
        with self.log.open("ab") as log, self.output.open("ab") as output:
            self._process = subprocess.Popen(
                [*guard, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env={**os.environ, **(environment or {})},
                # Ctrl-C in a terminal goes to a whole group: ours decides the order of the end.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id, and id of the process group."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Exit code, None while it runs."""
        return self._process.poll()

    def check(self) -> None:
        """Do nothing while the process runs.

        Raises:
            ChildError: it has ended.
        """
        if self.code is not None:
            raise self.failure(f"ended with code {self.code}")

    def failure(self, what: str) -> ChildError:
        """Return an error that says `what` and shows the end of the log."""
        return ChildError(f"{self.name} {what}; log {self.log}\n{self._tail()}".rstrip())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        if self.code is None:
            self._process.send_signal(number)

    def wait(self, deadline: float) -> bool:
        """Wait until time.monotonic() reaches `deadline`; return whether the process has ended."""
        while self.code is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return self.code is not None

    def kill(self) -> None:
        """End the whole process group at once; safe to call after the process has ended."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
        finally:
            self._process.wait()

    def _tail(self) -> str:
        lines: list[str] = []
        for path in (self.output, self.log):
            lines += path.read_text(errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:])


def stop_all(children: Sequence[Child], timeout_s: float) -> None:
    """Ask all `children` to end, wait, and kill what is left after `timeout_s`."""
    for child in children:
        child.signal(signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    for child in children:
        child.wait(deadline)
    for child in children:
        child.kill()
