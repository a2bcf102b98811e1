"""The saved form of an ESTIMATE machine: a JSON head and the panes that it still holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from infoplane.collector.estimate.join import JoinedWindow, RunAttempt
from infoplane.collector.packing import pack, unpack
from infoplane.wire import infoplane_pb2 as pb

VERSION = 1


def dump(run: str, attempts: Mapping[int, RunAttempt], counts: Mapping[str, int]) -> bytes:
    """Return the state of a machine."""
    panes: list[bytes] = []
    dumped = {}
    for number, attempt in sorted(attempts.items()):
        windows = []
        for window in attempt.windows.values():
            parts = [part.SerializeToString(deterministic=True) for part in _parts(window)]
            panes += parts
            windows.append({**_head(window), "parts": len(parts)})
        dumped[str(number)] = {
            "closed_through": attempt.closed_through,
            "expired_before": attempt.expired_before,
            "windows": windows,
        }
    return pack(
        "estimate", VERSION, {"run": run, "attempts": dumped, "counts": dict(counts)}, panes
    )


def load(data: bytes) -> tuple[str, dict[int, RunAttempt], dict[str, int]]:
    """Return what `dump` was given.

    Raises:
        DecodeError: another version, or not such a state.
    """
    head, chunks = unpack("estimate", VERSION, data)
    panes = iter(chunks)
    attempts = {}
    for number, dumped in head["attempts"].items():
        attempt = RunAttempt({}, dumped["closed_through"], dumped["expired_before"])
        for entry in dumped["windows"]:
            window = JoinedWindow(entry["index"], entry["position"], entry["opened_ms"])
            for _ in range(entry["parts"]):
                window.add(pb.WindowPane.FromString(next(panes)))
            window.units = entry["units"]
            window.closed_ms, window.late_index = entry["closed_ms"], entry["late_index"]
            attempt.windows[window.index] = window
        attempts[int(number)] = attempt
    return head["run"], attempts, head["counts"]


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
