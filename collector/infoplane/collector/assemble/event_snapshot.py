"""The saved form of an event machine: a JSON head and the tables of its windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infoplane.collector.assemble.event_table import EventTable
from infoplane.collector.assemble.event_windows import EventAttempt, EventWindow
from infoplane.collector.packing import pack, unpack
from infoplane.wire import infoplane_pb2 as pb

VERSION = 1
_STAGE = "assemble-events"
_PLAIN = (
    "index", "position", "opened_ms", "touched_ms", "offered", "received",
    "moved_on_ms", "final_ms", "late_index", "late_due_ms",
)  # fmt: skip


def dump(
    run: str, stream: str, attempts: Mapping[int, EventAttempt], counts: Mapping[str, int]
) -> bytes:
    """Return the state of a machine."""
    chunks: list[bytes] = []
    dumped = {}
    for number, attempt in sorted(attempts.items()):
        windows = []
        for window in attempt.windows.values():
            tables = [t.SerializeToString(deterministic=True) for t in window.table.dump()]
            chunks += tables
            windows.append(_dump_window(window, len(tables)))
        dumped[str(number)] = {
            "windows": windows,
            "expired_before": attempt.expired_before,
            "origin": attempt.origin,
            "read_through": attempt.read_through,
        }
    head = {"run": run, "stream": stream, "attempts": dumped, "counts": dict(counts)}
    return pack(_STAGE, VERSION, head, chunks)


def load(data: bytes) -> tuple[str, str, dict[int, EventAttempt], dict[str, int]]:
    """Return what `dump` was given.

    Raises:
        DecodeError: another version, or not such a state.
    """
    head, chunks = unpack(_STAGE, VERSION, data)
    tables = iter(chunks)
    attempts: dict[int, EventAttempt] = {}
    for number, dumped in head["attempts"].items():
        start, index = dumped["origin"]
        attempt = EventAttempt({}, dumped["expired_before"], (start, index), dumped["read_through"])
        for entry in dumped["windows"]:
            parts = [pb.EventTable.FromString(next(tables)) for _ in range(entry["tables"])]
            attempt.windows[entry["index"]] = _load_window(entry, EventTable.load(parts))
        attempts[int(number)] = attempt
    return head["run"], head["stream"], attempts, head["counts"]


def _dump_window(window: EventWindow, tables: int) -> dict[str, Any]:
    plain = {name: getattr(window, name) for name in _PLAIN}
    return {**plain, "steps": window.steps, "seen": sorted(window.seen), "tables": tables}


def _load_window(entry: Mapping[str, Any], table: EventTable) -> EventWindow:
    first, last = entry["steps"]
    plain = {name: entry[name] for name in _PLAIN}
    seen = {(rank, seq) for rank, seq in entry["seen"]}
    return EventWindow(steps=(first, last), table=table, seen=seen, **plain)
