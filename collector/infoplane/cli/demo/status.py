"""What the training job tells the demo while it runs: one JSON object a line, in a file.

This drives the progress display only. What the demo reports at its end comes from the topics.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class StatusWriter:
    """Appends status lines; without a path it is silent, as on every rank but the first."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("a", encoding="utf-8") if path is not None else None

    def write(self, **values: Any) -> None:
        """Append one line and hand it to the operating system."""
        if self._file is not None:
            self._file.write(json.dumps(values) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class StatusReader:
    """Follows a status file that may not exist yet."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def new_lines(self) -> list[dict[str, Any]]:
        """Return the whole lines that came since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
