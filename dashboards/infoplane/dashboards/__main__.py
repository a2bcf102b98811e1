"""Regenerates everything that is built from the registry; the one argument is the repository's root."""

from __future__ import annotations

import sys
from pathlib import Path

from infoplane.dashboards.artifacts import write_artifacts

if __name__ == "__main__":
    write_artifacts(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
