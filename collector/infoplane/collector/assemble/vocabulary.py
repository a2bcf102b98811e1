"""Token rows whose ranks each saw some columns of the logits: equal keys merge, and count once all parts are there.

A part says m, the largest of its logits s, and the sums Z, A, Q of (s-m)^j e^(s-m) for j = 0, 1, 2; both are shifted
to the larger m and added, so any order of ranks and any cut of the vocabulary gives the same row up to rounding:

    log_prob = target_logit - m - log Z      entropy = log Z - A / Z      varentropy = Q / Z - (A / Z)^2

Source: infoplane.agent.softmax_sums, which computes the parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from infoplane.collector.assemble.rows import Columns, Keys
from infoplane.wire import DecodeError

SEEN: Final = "seen"
_MAXIMUM: Final = "lse_maximum"
_SUMS: Final = ("lse_sum", "lse_dot", "lse_square")
_TARGET: Final = "target_logit"
_PARTIAL: Final = (_MAXIMUM, *_SUMS, _TARGET)
# Below this, e^x adds nothing to a sum that holds a 1.
_FLOOR: Final = -200.0
# Rows beyond the target that wait for their other parts, so that none is cut before it is whole.
_SLACK: Final = 2

Floats = NDArray[np.float64]


@dataclass(slots=True)
class VocabularyRows:
    """Parts of token rows by key, with the calls of `RowMerge`.

    Attributes:
        keep: the smallest keys stay.
        parts: contributions that make a row whole.
        columns: those of the records, sums in float64, and `seen`, the parts that a row holds.
    """

    keep: int
    parts: int
    keys: list[Keys] = field(default_factory=list)
    columns: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    size: int = 0

    def agrees_with(self, columns: Columns) -> bool:
        """Whether rows with these columns can be added."""
        given = _widened(columns, 0)
        return not self.keys or {name: values.dtype for name, values in given.items()} == {
            name: parts[0].dtype for name, parts in self.columns.items()
        }

    def add(self, keys: Keys, columns: Columns) -> None:
        """Add contributions that `agrees_with` these; without a column `seen`, each is one part."""
        self.keys.append(keys)
        for name, values in _widened(columns, len(keys)).items():
            self.columns.setdefault(name, []).append(values)
        self.size += len(keys)
        if self.size > 2 * self.parts * _SLACK * self.keep:
            self.settle()

    def settle(self) -> tuple[Keys, dict[str, NDArray[Any]]]:
        """Return keys (m,) ascending, and the columns of parts merged so far."""
        if not self.keys:
            return np.zeros(0, np.uint64), {}
        keys, place = np.unique(np.concatenate(self.keys), return_inverse=True)
        given = {name: np.concatenate(parts) for name, parts in self.columns.items()}
        merged = _merged(given, place, len(keys))
        limit = _SLACK * self.keep
        self.keys = [keys[:limit]]
        self.columns = {name: [values[:limit]] for name, values in merged.items()}
        self.size = len(self.keys[0])
        return self.keys[0], {name: parts[0] for name, parts in self.columns.items()}

    def whole(self) -> tuple[Keys, dict[str, NDArray[Any]]]:
        """Return keys and columns, as if the logits had been whole, of the `keep` smallest rows that are complete."""
        keys, columns = self.settle()
        seen = columns.get(SEEN, np.zeros(0, np.int32))
        chosen = np.flatnonzero(seen >= self.parts)[: self.keep]
        return keys[chosen], _finished({name: v[chosen] for name, v in columns.items()})


def check_columns(names: Iterable[str]) -> None:
    """Raise DecodeError for some, but not all, of the columns of a part."""
    found = set(_PARTIAL) & set(names)
    if found and found != set(_PARTIAL):
        raise DecodeError("content", f"a part of the vocabulary with {sorted(found)} only")


def _widened(columns: Columns, rows: int) -> dict[str, NDArray[Any]]:
    """Return the columns with sums in float64 and `seen`."""
    found = {
        name: values.astype(np.float64) if name in _PARTIAL else values
        for name, values in columns.items()
    }
    found[SEEN] = found.get(SEEN, np.ones(rows, np.int32)).astype(np.int32)
    return found


def _merged(
    given: Mapping[str, NDArray[Any]], place: NDArray[np.intp], size: int
) -> dict[str, NDArray[Any]]:
    """Return the columns (size,) with contribution i added to row place[i]."""
    found: dict[str, NDArray[Any]] = {}
    for name, values in given.items():
        if name in (_TARGET, SEEN):
            found[name] = np.zeros(size, values.dtype)
            np.add.at(found[name], place, values)
        elif name not in _SUMS:
            # All ranks say the same; the largest, so that it is one of them in any order.
            found[name] = _largest(values, place, size)
    if _MAXIMUM in given:
        shift = np.maximum(given[_MAXIMUM] - found[_MAXIMUM][place], _FLOOR)
        for name, values in zip(_SUMS, _moved(given, shift), strict=True):
            found[name] = np.zeros(size)
            np.add.at(found[name], place, values)
    return found


def _largest(values: NDArray[Any], place: NDArray[np.intp], size: int) -> NDArray[Any]:
    lowest = -np.inf if values.dtype.kind == "f" else np.iinfo(values.dtype).min
    found = np.full(size, lowest, values.dtype)
    np.maximum.at(found, place, values)
    return found


def _moved(given: Mapping[str, NDArray[Any]], shift: Floats) -> tuple[Floats, Floats, Floats]:
    """Return Z, A and Q about a maximum that is larger by -shift."""
    total, dot, square = (given[name] for name in _SUMS)
    factor = np.exp(shift)
    return (
        factor * total,
        factor * (dot + shift * total),
        factor * (square + shift * (2 * dot + shift * total)),
    )


def _finished(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the columns with what follows from the parts in their place."""
    found = {n: v for n, v in columns.items() if n != SEEN and n not in _PARTIAL}
    if not columns.keys() >= set(_PARTIAL):
        return found
    total, dot, square = (columns[name] for name in _SUMS)
    # A row without any finite logit has no softmax.
    with np.errstate(divide="ignore", invalid="ignore"):
        log_total, mean = np.log(total), dot / total
        log_prob = columns[_TARGET] - columns[_MAXIMUM] - log_total
        found["entropy"] = (log_total - mean).astype(np.float32)
        found["varentropy"] = np.maximum(square / total - mean**2, 0).astype(np.float32)
    is_valid = columns["valid"] != 0 if "valid" in columns else np.ones(len(total), bool)
    found["log_prob"] = np.where(is_valid, log_prob, 0).astype(np.float32)
    return found
