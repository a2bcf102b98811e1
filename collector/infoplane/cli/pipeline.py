"""Everything between a training job and the page, on one machine: broker, collector, exporter, controller."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

from infoplane.cli.broker import check_reachable
from infoplane.cli.child import Child, stop_all
from infoplane.cli.demo.broker import EmbeddedBroker
from infoplane.cli.signals import StopSignal
from infoplane.collector.drivers.topics import create_topics
from infoplane.wire.topics import Names

_READY_S: Final = 120.0
_STOP_S: Final = 4.0
_POLL_S: Final = 0.05
_NICENESS: Final = 5
_SERVICES: Final = ("collector", "exporter", "controller")


class InterruptedStart(Exception):  # noqa: N818 - not an error: the user changed their mind
    """A signal came while the services were starting."""


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """Where things listen.

    Attributes:
        bootstrap: a running broker; None starts the embedded one.
        prefix: of the topics.
        page_port: of /metrics and the page; 0 takes any free port.
        broker_port: of the embedded broker; 0 takes any free port.
    """

    bootstrap: str | None = None
    prefix: str = "infoplane."
    page_port: int = 0
    broker_port: int = 0


class Pipeline:
    """Starts all parts, waits until they are ready, and ends them in order.

    Leave it by `with`. The folder with the logs stays after an error, and is removed otherwise.

    Attributes:
        bootstrap: where the broker is.
        page: URL of the page, once ready.
        directory: of the logs.
        children: what runs.
        extra: variables of single services besides `environment`, by name; set them before `start`.
    """

    def __init__(self, options: PipelineOptions) -> None:
        self.options = options
        self.bootstrap = options.bootstrap or ""
        self.page = ""
        self.directory = Path(tempfile.mkdtemp(prefix="infoplane-"))
        self.children: list[Child] = []
        self.extra: dict[str, dict[str, str]] = {}
        self._broker: EmbeddedBroker | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that point agents, or services, to this pipeline."""
        return {
            "INFOPLANE_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "INFOPLANE_KAFKA__TOPIC_PREFIX": self.options.prefix,
        }

    def start(self, stop: StopSignal, say: Callable[[str], None]) -> None:
        """Start all parts and return when they are ready; `say` hears what happens.

        Raises:
            TransportError: no broker.
            ChildError: a service ended or is not ready in time.
            InterruptedStart: `stop` was set meanwhile.
        """
        if self.options.bootstrap is None:
            self._broker = EmbeddedBroker(
                port=self.options.broker_port, log=self.directory / "broker.log"
            ).start()
            self.bootstrap = self._broker.bootstrap
            say(f"embedded broker at {self.bootstrap}")
        else:
            check_reachable(self.bootstrap)
        create_topics(self.bootstrap, Names(self.options.prefix))
        for name in _SERVICES:
            self._start_service(name)
        facts = self._wait_until_ready(stop)
        self.page = facts["exporter"]["page"]

    def check(self) -> None:
        """Do nothing while all parts run.

        Raises:
            ChildError: one has ended.
            TransportError: the embedded broker has ended.
        """
        for child in self.children:
            child.check()
        if self._broker is not None:
            check_reachable(self.bootstrap)

    def add(self, child: Child) -> None:
        """Take over a process: it is ended first, with the services."""
        self.children.insert(0, child)

    def close(self, *, keep_logs: bool) -> None:
        """End everything within about seven seconds."""
        stop_all(self.children, _STOP_S)
        if self._broker is not None:
            self._broker.stop(2.0)
        if not keep_logs:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(keep_logs=error is not None and not isinstance(error, InterruptedStart))

    def _start_service(self, name: str) -> None:
        command = [sys.executable, "-m", "infoplane.cli.main", name, "--json"]
        if name == "exporter":
            command += ["--port", str(self.options.page_port)]
        # One thread each, and after the ranks: a service that is late loses nothing, a rank loses time.
        own = self.extra.get(name, {})
        environment = {**self.environment, **own, "OMP_NUM_THREADS": "1"}
        self.children.append(
            Child(name, command, self.directory, environment=environment, niceness=_NICENESS)
        )

    def _wait_until_ready(self, stop: StopSignal) -> dict[str, dict[str, str]]:
        deadline = time.monotonic() + _READY_S
        facts: dict[str, dict[str, str]] = {}
        while len(facts) < len(self.children):
            for child in self.children:
                if child.name not in facts and (said := _ready_line(child)):
                    facts[child.name] = said
                elif child.name not in facts and time.monotonic() > deadline:
                    raise child.failure(f"is not ready after {_READY_S:.0f} s")
                child.check()
            if stop.wait(_POLL_S):
                raise InterruptedStart
        return facts


def _ready_line(child: Child) -> dict[str, str]:
    for line in child.output.read_text(encoding="utf-8").splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue  # a line that is still being written, or a library that prints
        if isinstance(said, dict) and said.get("ready"):
            return said
    return {}
