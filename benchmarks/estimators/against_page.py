"""The dated page that a speed comparison leaves beside its script."""

from __future__ import annotations

import os
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path

FOLDER = Path(__file__).parent
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight")


def machine() -> str:
    """Return the machine in words."""
    cores = os.cpu_count() or 0
    count = NUMBERS[cores] if cores < len(NUMBERS) else str(cores)
    return f"{count} CPU core{'' if cores == 1 else 's'} ({platform.machine()})"


def verdict(measured: float, wanted: float | None) -> tuple[str, str]:
    """Return the cells "wanted" and "held" of a ratio, both empty where nothing is wanted."""
    if wanted is None:
        return "", ""
    return f"{wanted:g}", "held" if measured >= wanted else "not held"


def write(name: str, title: str, versions: str, body: str) -> Path:
    """Write ``NAME-DATE.md``: how it was run, on what, and the results."""
    today = datetime.now(tz=timezone.utc).date().isoformat()
    path = FOLDER / f"{name}-{today}.md"
    command = " ".join(["python", *sys.argv])
    path.write_text(
        f"# {title}, {today}\n\nWritten by `{command}` on {machine()}, one thread. {versions}.\n\n"
        f"{body.strip()}\n"
    )
    return path
