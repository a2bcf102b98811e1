"""The generated protobuf code is what the schema gives."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.integration
def test_generated_code_equals_a_regeneration(
    tmp_path: Path, require: Callable[[str, bool, str], None]
) -> None:
    done = subprocess.run(
        [ROOT / "scripts/generate_wire.sh", tmp_path], capture_output=True, text=True, timeout=240
    )
    require("gen", done.returncode == 0, f"generate_wire.sh failed: {done.stderr[-500:]}")
    for name in ("infoplane_pb2.py", "infoplane_pb2.pyi"):
        assert (tmp_path / name).read_text() == (ROOT / "agent/infoplane/wire" / name).read_text()
