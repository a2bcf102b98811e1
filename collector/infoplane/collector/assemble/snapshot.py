"""The saved form of an ASSEMBLE machine: a JSON head and the panes of its windows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infoplane.collector.assemble.attempt import Attempt
from infoplane.collector.assemble.bodies import restore
from infoplane.collector.assemble.roster import Roster
from infoplane.collector.assemble.window import Window
from infoplane.collector.packing import pack, unpack
from infoplane.wire import infoplane_pb2 as pb

VERSION = 1
_TIMES = ("deadline_ms", "final_ms", "late_index", "late_due_ms", "expected", "expected_version")


def dump(run: str, unit: str, attempts: Mapping[int, Attempt], counts: Mapping[str, int]) -> bytes:
    """Return the state of a machine."""
    panes: list[bytes] = []
    dumped_attempts = {}
    for number, attempt in sorted(attempts.items()):
        windows = []
        for window in attempt.windows.values():
            dumped = window.body.dump() if window.body is not None else []
            panes += [pane.SerializeToString(deterministic=True) for pane in dumped]
            windows.append(_dump_window(window, len(dumped)))
        dumped_attempts[str(number)] = {
            "rule": [attempt.rule.base_level, attempt.rule.width],
            "roster": attempt.roster.dump(),
            "units": attempt.units,
            "windows": windows,
            "expired_before": attempt.expired_before,
        }
    head = {
        "run": run,
        "unit": unit,
        "attempts": dumped_attempts,
        "counts": dict(counts),
    }
    return pack("assemble", VERSION, head, panes)


def load(data: bytes) -> tuple[str, str, dict[int, Attempt], dict[str, int]]:
    """Return what `dump` was given.

    Raises:
        DecodeError: another version, or not such a state.
    """
    head, chunks = unpack("assemble", VERSION, data)
    attempts: dict[int, Attempt] = {}
    at = 0
    for number, dumped in head["attempts"].items():
        base_level, width = dumped["rule"]
        attempt = Attempt(
            pb.WindowRule(base_level=base_level, width=width),
            Roster.load(dumped["roster"]),
            dumped["units"],
            {},
            dumped["expired_before"],
        )
        for entry in dumped["windows"]:
            window = _load_window(entry)
            stop = at + entry["panes"]
            window.body = restore([pb.WindowPane.FromString(chunk) for chunk in chunks[at:stop]])
            at = stop
            attempt.windows[window.index] = window
        attempts[int(number)] = attempt
    return head["run"], head["unit"], attempts, head["counts"]


def _dump_window(window: Window, panes: int) -> dict[str, Any]:
    return {
        "index": window.index,
        "steps": [window.first_step, window.last_step],
        "position": window.position,
        "opened_ms": window.opened_ms,
        "seen": sorted(window.seen),
        "panes": panes,
        **{name: getattr(window, name) for name in _TIMES},
    }


def _load_window(entry: dict[str, Any]) -> Window:
    first, last = entry["steps"]
    window = Window(entry["index"], first, last, entry["position"], entry["opened_ms"])
    window.seen = {(sender, step) for sender, step in entry["seen"]}
    for name in _TIMES:
        setattr(window, name, entry[name])
    return window
