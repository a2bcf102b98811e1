"""What estimators remember of earlier windows: frozen references, running sums, the state to measure a step from.

A memory is a value: it maps a computation and its labels to named arrays, and arrays are replaced, never changed. The
memory after a window is a function of the memory before it and of the window, so a window that a late pane corrects is
computed again from the memory that it was computed from before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoplane.collector.metrics.metric import Labels
from infoplane.collector.packing import pack, unpack
from infoplane.wire import DecodeError

Arrays = Mapping[str, NDArray[Any]]
Key = tuple[str, Labels]  # computation, labels
Held = Mapping[Key, tuple[int, Arrays]]  # with the window that left the arrays
_VERSION = 1
# Sorts before the part that says which windows are gone: that one must be written last.
_PREFIX = "+memory|"


@dataclass(slots=True)
class Memory:
    """The memory before a window, and what the window changes in it."""

    before: Held = field(default_factory=dict)
    window: int = 0
    _changed: dict[Key, tuple[int, Arrays]] = field(default_factory=dict)

    def recall(self, computation: str, labels: Labels) -> dict[str, NDArray[Any]]:
        """Return what was left under these labels; empty at first."""
        _, arrays = self.before.get((computation, labels), (0, {}))
        return dict(arrays)

    def keep(self, computation: str, labels: Labels, arrays: Arrays) -> None:
        """Leave arrays for the next window."""
        known = self.before.get((computation, labels))
        if arrays and (known is None or not equal(known[1], arrays)):
            self._changed[computation, labels] = (self.window, dict(arrays))

    @property
    def after(self) -> Held:
        """The memory after the window."""
        return {**self.before, **self._changed} if self._changed else self.before


def equal(first: Arrays, second: Arrays) -> bool:
    """Whether two sets of arrays hold the same, NaN equal to NaN."""
    return first is second or (
        first.keys() == second.keys()
        and all(
            a.dtype == second[name].dtype and a.tobytes() == second[name].tobytes()
            for name, a in first.items()
        )
    )


def same(first: Held, second: Held) -> bool:
    """Whether two memories hold the same."""
    return first is second or (
        first.keys() == second.keys()
        and all(equal(one[1], second[key][1]) for key, one in first.items())
    )


@dataclass(slots=True)
class SavedMemory:
    """Writes memories as parts of a machine's memo so that no crash can tear them.

    The parts of one save reach the log one by one. So a save keeps the versions of the save before it, and says last
    which windows are gone: whatever part of a save is there, the newest versions from before those windows are whole.
    """

    _last: dict[str, bytes] = field(default_factory=dict)
    _encoded: dict[str, tuple[Arrays, bytes]] = field(default_factory=dict)

    @classmethod
    def of_parts(cls, parts: Mapping[str, bytes]) -> SavedMemory:
        """Go on where an earlier life stopped: its last save stays until the next one is whole."""
        return cls({name: data for name, data in parts.items() if name.startswith(_PREFIX)})

    def parts(self, held: Mapping[int, Held]) -> dict[str, bytes]:
        """Return the parts of the memories of all attempts, with those of the last call."""
        encoded = {
            name: entry
            for attempt, memory in held.items()
            for name, entry in self._parts_of(attempt, memory)
        }
        now = {name: data for name, (_, data) in encoded.items()}
        found = {**self._last, **now}
        self._last, self._encoded = now, encoded
        return found

    def _parts_of(self, attempt: int, held: Held) -> Iterator[tuple[str, tuple[Arrays, bytes]]]:
        for (computation, labels), (window, arrays) in held.items():
            name = f"{_PREFIX}{attempt}|{window}|{computation}|{json.dumps(labels)}"
            known = self._encoded.get(name)
            if known is None or known[0] is not arrays:
                known = (arrays, _dump(attempt, window, (computation, labels), arrays))
            yield name, known


def load_parts(parts: Mapping[str, bytes], before: Mapping[int, int]) -> dict[int, dict[Key, Any]]:
    """Return the memories by attempt: of every key the newest version from before window `before[attempt]`.

    Raises:
        DecodeError: a part cannot be read.
    """
    found: dict[int, dict[Key, Any]] = {}
    for name in parts:
        if not name.startswith(_PREFIX):
            continue
        attempt, window, key, arrays = _load(parts[name])
        held = found.setdefault(attempt, {})
        if window < before.get(attempt, 0) and (key not in held or held[key][0] < window):
            held[key] = (window, arrays)
    return found


def dump_held(held: Held) -> list[bytes]:
    """Return a memory as chunks of bytes."""
    return [_dump(0, window, key, arrays) for key, (window, arrays) in sorted(held.items())]


def load_held(chunks: Iterator[bytes], count: int) -> dict[Key, tuple[int, Arrays]]:
    """Return the memory that the next `count` chunks hold; raises DecodeError."""
    found = {}
    for _ in range(count):
        _, window, key, arrays = _load(next(chunks))
        found[key] = (window, arrays)
    return found


def _dump(attempt: int, window: int, key: Key, arrays: Arrays) -> bytes:
    columns = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    head = {
        "attempt": attempt,
        "window": window,
        "computation": key[0],
        "labels": key[1],
        "columns": [[name, a.dtype.str, a.shape] for name, a in columns.items()],
    }
    return pack("memory", _VERSION, head, [a.tobytes() for a in columns.values()])


def _load(data: bytes) -> tuple[int, int, Key, Arrays]:
    head, chunks = unpack("memory", _VERSION, data)
    labels: Labels = tuple((name, value) for name, value in head["labels"])
    try:
        arrays = {
            name: np.frombuffer(chunk, dtype).reshape(shape)
            for (name, dtype, shape), chunk in zip(head["columns"], chunks, strict=True)
        }
    except (ValueError, TypeError) as error:
        raise DecodeError("content", f"memory of {head['computation']}: {error}") from None
    return head["attempt"], head["window"], (head["computation"], labels), arrays
