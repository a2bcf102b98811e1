"""The agents' part of the audit trail: what was refused, applied, and what failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from infoplane.agent.counters import Counters
from infoplane.agent.identity import Identity
from infoplane.agent.outbox import Parcel
from infoplane.agent.transports.base import Outgoing
from infoplane.wire import encode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.topics import AUDIT, Names, run_key

_PARCEL_BYTES: Final = 1024
_MAX_TEXT: Final = 300


@dataclass(frozen=True, slots=True)
class AuditParcel:
    """One entry on its way out."""

    entry: pb.AuditEntry
    topic: str
    nbytes: int = _PARCEL_BYTES

    def encode(self) -> Sequence[Outgoing]:
        """Return the framed entry; runs in the publisher thread."""
        entry = self.entry
        return [Outgoing(self.topic, run_key(entry.run), encode(entry), entry.clock_ms)]

    def release(self) -> None:
        """Do nothing: it borrows nothing."""


class Audit:
    """Writes entries for one rank; any thread. An entry that finds no room is counted."""

    def __init__(
        self,
        identity: Identity,
        prefix: str,
        counters: Counters,
        offer: Callable[[Parcel], bool],
    ) -> None:
        self._identity = identity
        self._topic = Names(prefix).of(AUDIT)
        self._counters = counters
        self._offer = offer

    def write(
        self,
        stage: str,
        command: pb.Command,
        step: int,
        reason: str = "",
        details: Mapping[str, object] | None = None,
    ) -> None:
        """Write what became of `command`; never waits."""
        entry = pb.AuditEntry(
            run=self._identity.run,
            attempt=self._identity.attempt,
            id=command.id,
            stage=stage,
            actor="agent",
            mode="enforce",
            action=command.action,
            value=command.value,
            rule=command.rule,
            reason=reason,
            rank=self._identity.coordinates.rank,
            step=max(step, 0),
            clock_ms=time.time_ns() // 1_000_000,
            details=[
                pb.Parameter(name=name, value=str(value)[:_MAX_TEXT])
                for name, value in (details or {}).items()
            ],
        )
        self._counters.add("control_commands", f"{stage}_{reason}" if reason else stage)
        if not self._offer(AuditParcel(entry, self._topic)):
            self._counters.add("audit_dropped")
