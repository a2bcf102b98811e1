"""`infoplane dashboards build`: writes, compares, says what changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("grafana_foundation_sdk")


def test_build_prints_what_it_wrote_and_check_agrees(invoke: Any, tmp_path: Path) -> None:
    assert invoke("dashboards", "build", tmp_path, "--check").code == 5
    out = invoke("dashboards", "build", tmp_path)
    assert out.code == 0, out.stderr
    written = [Path(line) for line in out.stdout.splitlines()]
    assert written
    assert all(path.is_file() for path in written)
    assert invoke("dashboards", "build", tmp_path).stdout == ""
    assert invoke("dashboards", "build", tmp_path, "--check").code == 0
    written[0].write_text("changed")
    out = invoke("dashboards", "build", tmp_path, "--check")
    assert out.code == 5
    assert str(written[0].relative_to(tmp_path)) in out.stdout
