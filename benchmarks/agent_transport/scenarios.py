"""Scenarios of broker_failures.py: what happens to the broker, and when, while a victim offers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infoplane.cli.demo.broker import EmbeddedBroker
from infoplane.collector.drivers.topics import create_topics
from infoplane.wire.topics import Names

VICTIM = Path(__file__).with_name("victim.py")
QUEUE_BYTES = 32 << 20
INFLIGHT_BYTES = 32 << 20
FAULTS = ("dead", "stopped", "black-holed")
TIMES = ("before", "during", "after")


@dataclass(frozen=True)
class Outcome:
    """What one scenario cost."""

    fault: str
    when: str
    steps: int
    exit_code: int
    exit_seconds: float
    report: dict[str, Any]
    stderr: str

    def count(self, name: str) -> float:
        """Return the total of counter `name` over its reasons."""
        found = self.report["counters"].items()
        return float(sum(n for key, n in found if key.split("/")[0] == name))


class Stage:
    """A broker that can be made to fail in three ways, and to come back."""

    def __init__(self) -> None:
        self.broker = EmbeddedBroker()
        self._hole: socket.socket | None = None
        self._stopped = False

    def rise(self) -> None:
        """Make the broker answer."""
        if self._hole is not None:
            self._hole.close()
            self._hole = None
        if self._stopped:
            os.kill(self.broker.pid, signal.SIGCONT)
            self._stopped = False
            return
        self.broker.start()
        create_topics(self.broker.bootstrap, Names())

    def fail(self, fault: str) -> None:
        """Make the broker fail as `fault` says."""
        if fault == "stopped":
            os.kill(self.broker.pid, signal.SIGSTOP)
            self._stopped = True
            return
        self.broker.kill()
        if fault == "black-holed":
            self._hole = socket.socket()
            self._hole.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._hole.bind(("127.0.0.1", self.broker.port))
            self._hole.listen(128)  # connections succeed; nothing ever answers

    def end(self) -> None:
        """Leave nothing behind."""
        if self._hole is not None:
            self._hole.close()
        self.broker.stop()


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Yield a stage with a broker that answers."""
    scene = Stage()
    try:
        scene.rise()
        yield scene
    finally:
        scene.end()


def play(fault: str, when: str, *, steps: int, rate: float, nice: int = 0) -> Outcome:
    """Run one victim through `fault` at `when`; "none" is the control with a live broker.

    during: the broker fails after a quarter of the steps and is back after half of them.
    `nice` is the priority of the victim: negative ones (root only) keep other load out of its times.
    """
    with stage() as scene:
        if when == "before" and fault != "none":
            scene.fail(fault)
        arguments = [scene.broker.bootstrap, steps, rate, QUEUE_BYTES, INFLIGHT_BYTES, nice]
        # kafka-python leaves the socket of a refused connection to the garbage collector.
        warnings = ("-W", "error", "-W", "ignore::ResourceWarning")
        with subprocess.Popen(
            [sys.executable, *warnings, str(VICTIM), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # More threads than needed would spin and disturb what is measured.
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        ) as process:
            try:
                return _watch(process, scene, fault, when, steps)
            finally:
                process.kill()


def _watch(
    process: subprocess.Popen[str], scene: Stage, fault: str, when: str, steps: int
) -> Outcome:
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stderr is not None
    acts = {steps // 4: lambda: scene.fail(fault), steps // 2: scene.rise}
    pending = sorted(acts) if when == "during" and fault != "none" else []
    for line in process.stdout:
        if line.startswith("END"):
            break
        while pending and int(line.split()[1]) >= pending[0]:
            acts[pending.pop(0)]()
    if when == "after" and fault != "none":
        scene.fail(fault)
    start = time.monotonic()
    process.stdin.write("go\n")
    process.stdin.flush()
    output, errors = process.stdout.read(), process.stderr.read()
    code = process.wait(30)
    seconds = time.monotonic() - start
    report = json.loads(output.splitlines()[-1]) if code == 0 else {}
    return Outcome(fault, when, steps, code, seconds, report, errors)
