"""What the command writes: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def say(message: str) -> None:
    """Write one line for people to stderr."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def emit(text: str) -> None:
    """Write one line of data to stdout."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def emit_json(value: Any, *, indent: int | None = None) -> None:
    """Write `value` as JSON to stdout; one line unless `indent` is given. NaN and infinities become null."""
    emit(json.dumps(_plain(value), indent=indent, allow_nan=False, ensure_ascii=False))


def emit_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write `rows` to stdout in aligned columns, without colours, so that other tools can cut it."""
    cells = [list(headers), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    for row in cells:
        emit("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return value
