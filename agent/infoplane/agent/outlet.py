"""From settings to the transport through which records leave."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infoplane.agent.counters import Counters
from infoplane.agent.settings import Settings
from infoplane.agent.sidecar import SidecarTransport, Start, is_possible
from infoplane.agent.transports import (
    FileTransport,
    KafkaTransport,
    MemoryTransport,
    Outgoing,
    Transport,
    TransportFactory,
)

if TYPE_CHECKING:
    from infoplane.agent.identity import Identity

_log = logging.getLogger("infoplane.agent")


class Discard:
    """A transport that throws everything away: to measure the agent alone."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def send(self, message: Outgoing) -> bool:
        """Count `message` as sent and forget it."""
        self._counters.add("records_sent")
        self._counters.add("bytes_sent", value=message.nbytes)
        return True

    def poll(self) -> None:
        """Do nothing."""

    def close(self, timeout_s: float) -> None:
        """Do nothing."""


class MemoryOutlet:
    """Builds the memory transport and keeps it within reach of whoever reads the messages."""

    def __init__(self) -> None:
        self.transport: MemoryTransport | None = None

    def __call__(self, counters: Counters) -> Transport:
        """Return the one transport of this outlet."""
        self.transport = self.transport or MemoryTransport(counters)
        return self.transport

    @property
    def messages(self) -> list[Outgoing]:
        """Messages sent so far."""
        return list(self.transport.messages) if self.transport else []


def transport_factory(settings: Settings, identity: Identity) -> TransportFactory:
    """Return what builds the transport of `settings`, called later in the publisher thread."""
    run, rank = identity.run, identity.coordinates.rank
    if settings.publisher == "sidecar":
        if settings.transport != "memory" and is_possible():
            start, size = Start(settings, run, rank), settings.buffers.queue_bytes
            return lambda counters: SidecarTransport(start, counters, ring_bytes=size)
        _log.warning("infoplane: no sidecar for transport %s here", settings.transport)
    return transport_of(settings, run, rank)


def transport_of(settings: Settings, run: str, rank: int) -> TransportFactory:
    """Return what builds the transport of `settings` itself, wherever it then runs; needs no torch.

    The path of a file may hold {run} and {rank}.
    """
    if settings.transport == "memory":
        return MemoryOutlet()
    if settings.transport == "none":
        return Discard
    if settings.transport == "file":
        name = settings.file.path.replace("{run}", run).replace("{rank}", str(rank))
        path = Path(name).absolute()
        return lambda counters: FileTransport(path, counters)
    kafka = settings.kafka
    version: dict[str, Any] = {}
    if kafka.api_version != "auto":
        version["api_version"] = tuple(int(part) for part in kafka.api_version.split("."))
    client = f"infoplane-agent-{run}-{rank}"
    return lambda counters: KafkaTransport(
        kafka.bootstrap_servers, counters, client_id=client, **version
    )
