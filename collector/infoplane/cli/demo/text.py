"""The training text: the sources of Python's own standard library, as bytes."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

_SKIPPED: Final = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
)
MAX_BYTES: Final = 12 << 20


def standard_library_text(max_bytes: int = MAX_BYTES) -> NDArray[np.uint8]:
    """Return the sources of the standard library, files in the order of their names, at most `max_bytes`.

    The same Python gives the same bytes everywhere.

    Raises:
        FileNotFoundError: this Python came without its sources.
    """
    root = Path(sysconfig.get_path("stdlib"))
    parts: list[bytes] = []
    size = 0
    for path in _sources(root):
        parts.append(path.read_bytes())
        size += len(parts[-1])
        if size >= max_bytes:
            break
    if not parts:
        raise FileNotFoundError(f"no Python sources in {root}: the demo trains on them")
    return np.frombuffer(b"".join(parts)[:max_bytes], dtype=np.uint8)


def _sources(root: Path) -> Iterator[Path]:
    for path in sorted(root.rglob("*.py")):
        if not _SKIPPED.intersection(path.relative_to(root).parts):
            yield path
