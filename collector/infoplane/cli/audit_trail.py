"""What was done to runs, as the audit trail tells it."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Any, Final

from infoplane.cli.broker import check_reachable
from infoplane.cli.reading import TopicReader
from infoplane.collector.interventions import Intervention
from infoplane.collector.settings import KafkaSection
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.actions import ACTIONS
from infoplane.wire.topics import AUDIT

_LIMIT_S: Final = 60.0
_POLL_MS: Final = 200


def read_audit(kafka: KafkaSection, run: str | None) -> list[pb.AuditEntry]:
    """Return the lines of the audit trail, of `run` only if it is given, in order.

    Raises:
        TransportError: no broker answers, or there is no such topic.
    """
    check_reachable(kafka.bootstrap_servers)
    reader = TopicReader(kafka, (AUDIT,))
    found: list[pb.AuditEntry] = []
    limit = time.monotonic() + _LIMIT_S
    try:
        while not reader.is_at_end and time.monotonic() < limit:
            messages = [read.message() for read in reader.poll(_POLL_MS)]
            found += [one for one in messages if isinstance(one, pb.AuditEntry)]
    finally:
        reader.close()
    return [one for one in found if run in (None, one.run)]


def entry_fields(entry: pb.AuditEntry) -> dict[str, Any]:
    """Return one line as JSON-ready fields; what only the other side fills in is null."""
    is_agent = entry.actor == "agent"
    return {
        "run": entry.run,
        "attempt": entry.attempt,
        "id": entry.id,
        "stage": entry.stage,
        "actor": entry.actor,
        "mode": entry.mode,
        "action": entry.action,
        "value": _value(entry.action, entry.value),
        "rule": entry.rule,
        "reason": entry.reason,
        "rank": entry.rank if is_agent else None,
        "step": entry.step,
        "window": None if is_agent else entry.window,
        "clock_ms": entry.clock_ms,
        "details": {one.name: one.value for one in entry.details},
    }


def intervention_fields(one: Intervention) -> dict[str, Any]:
    """Return one intervention as JSON-ready fields."""
    head = one.head
    return {
        "run": one.run,
        "attempt": head.attempt,
        "id": one.id,
        "rule": head.rule,
        "action": head.action,
        "value": one.value,
        "mode": head.mode,
        "stage": one.stage,
        "since_ms": one.since_ms,
        "reason": one.reason,
        "window": head.window,
        "step": head.step,
        "applied_steps": one.applied_steps,
    }


def clock(milliseconds: int) -> str:
    """Return a time for people, UTC."""
    at = datetime.fromtimestamp(milliseconds / 1000, timezone.utc)
    return at.strftime("%Y-%m-%d %H:%M:%S")


def steps(one: Intervention) -> str:
    """Return `rank:step` of every rank that applied it; one number if they all agree."""
    applied = one.applied_steps
    if len(applied) > 1 and len(set(applied.values())) == 1:
        return f"{next(iter(applied.values()))} on {len(applied)} ranks"
    return " ".join(f"{rank}:{step}" for rank, step in applied.items()) or "-"


def _value(action: str, value: float) -> float | None:
    known = ACTIONS.get(action)
    return None if known is not None and known.low == known.high else value
