"""The saved form of an ESTIMATE machine: a JSON head and the panes that it still holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infoplane.collector.estimate.join import JoinedWindow, RunAttempt
from infoplane.collector.estimate.memory import dump_held, load_held
from infoplane.collector.packing import pack, unpack
from infoplane.wire import infoplane_pb2 as pb

VERSION = 3
Lanes = Mapping[str, Mapping[int, RunAttempt]]


def dump(run: str, lanes: Lanes, kept: Sequence[pb.WindowPane], counts: Mapping[str, int]) -> bytes:
    """Return the state of a machine; `kept` are the panes of its histories."""
    chunks: list[bytes] = []
    dumped = {
        lane: {str(number): _dump_attempt(attempt, chunks) for number, attempt in attempts.items()}
        for lane, attempts in lanes.items()
    }
    chunks += [pane.SerializeToString(deterministic=True) for pane in kept]
    head = {"run": run, "lanes": dumped, "kept": len(kept), "counts": dict(counts)}
    return pack("estimate", VERSION, head, chunks)


def load(
    data: bytes,
) -> tuple[str, dict[str, dict[int, RunAttempt]], list[pb.WindowPane], dict[str, int]]:
    """Return what `dump` was given.

    Raises:
        DecodeError: another version, or not such a state.
    """
    head, chunks = unpack("estimate", VERSION, data)
    left = iter(chunks)
    lanes = {
        lane: {int(number): _load_attempt(dumped, left) for number, dumped in attempts.items()}
        for lane, attempts in head["lanes"].items()
    }
    kept = [pb.WindowPane.FromString(chunk) for chunk in left]
    return head["run"], lanes, kept, head["counts"]


def _dump_attempt(attempt: RunAttempt, chunks: list[bytes]) -> dict[str, Any]:
    windows = []
    for window in attempt.windows.values():
        parts = [part.SerializeToString(deterministic=True) for part in _parts(window)]
        chunks += parts
        after = dump_held(window.after or {})
        chunks += after
        is_known = window.after is not None
        windows.append(
            {**_head(window), "parts": len(parts), "after": len(after) if is_known else None}
        )
    chunks += (memory := dump_held(attempt.memory))
    return {
        "closed_through": attempt.closed_through,
        "expired_before": attempt.expired_before,
        "windows": windows,
        "memory": len(memory),
    }


def _load_attempt(dumped: Mapping[str, Any], chunks: Iterator[bytes]) -> RunAttempt:
    attempt = RunAttempt({}, dumped["closed_through"], dumped["expired_before"])
    for entry in dumped["windows"]:
        window = JoinedWindow(entry["index"], entry["position"], entry["opened_ms"])
        for _ in range(entry["parts"]):
            window.add(pb.WindowPane.FromString(next(chunks)))
        window.units = entry["units"]
        window.closed_ms, window.late_index = entry["closed_ms"], entry["late_index"]
        if entry["after"] is not None:
            window.after = load_held(chunks, entry["after"])
        attempt.windows[window.index] = window
    attempt.memory = load_held(chunks, dumped["memory"])
    return attempt


def _parts(window: JoinedWindow) -> Iterator[pb.WindowPane]:
    """Whole panes first: a pane that is being gathered is greater than the whole one it will replace."""
    for group in (window.whole, window.gathering):
        for unit in group.values():
            yield from (part for part in unit.parts if part is not None)


def _head(window: JoinedWindow) -> dict[str, Any]:
    return {
        "index": window.index,
        "position": window.position,
        "units": window.units,
        "opened_ms": window.opened_ms,
        "closed_ms": window.closed_ms,
        "late_index": window.late_index,
    }
