"""Two ranks under torchrun and DeepSpeed ZeRO 2 are commanded: alike, at the same step, or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from rank_processes import rank_environment

from infoplane.wire.commands import create_keys

RANKS = 2
STEPS = 90

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory, require: Callable[[str, bool, str], None]
) -> list[dict[str, Any]]:
    """Run the workers and return what each rank wrote."""
    require("deepspeed", find_spec("deepspeed") is not None, "DeepSpeed is not installed")
    folder = tmp_path_factory.mktemp("control")
    create_keys(folder)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", str(RANKS)]
    command += [str(Path(__file__).with_name("control_worker.py")), str(folder)]
    done = subprocess.run(
        command, env=rank_environment(), capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(RANKS)]


def lines(result: dict[str, Any], word: str) -> list[str]:
    return [line for line in result["log"] if word in line]


def entries(result: dict[str, Any], stage: str) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in result["audit"] if entry["stage"] == stage}


def test_a_command_is_applied_at_the_same_step_on_both_ranks(results: list[Any]) -> None:
    """The rates come from inside the optimizer's own step, not from a hook."""
    first, second = (result["commanded"] for result in results)
    assert first["inside"] == second["inside"]
    # The schedule is what it would be without commands: only the inside of steps differs.
    assert first["between"] == results[0]["off"]["between"]
    planned = [1e-2, *first["between"]]
    factors = [
        round(inside / plan, 9) for inside, plan in zip(first["inside"], planned, strict=False)
    ]
    begin, end = factors.index(0.5), len(factors) - factors[::-1].index(0.5)
    assert set(factors[begin:end]) == {0.5}
    assert set(factors[:begin] + factors[end:]) == {1.0}
    for rank, result in enumerate((first, second)):
        applied = entries(result, "applied")
        entry = applied["commanded/learning_rate_factor/first"]
        assert (entry["step"], entry["rank"]) == (begin, rank)
        assert float(entry["details"]["learning_rate_before"]) == planned[begin]
        assert float(entry["details"]["learning_rate_after"]) == first["inside"][begin]
        assert applied["commanded/learning_rate_factor/second"]["step"] == end
        assert result["factor"] == 1.0


def test_rank_0_alone_refuses_and_says_why(results: list[Any]) -> None:
    first, second = (result["commanded"] for result in results)
    refused = {
        entry["id"]: entry["reason"] for entry in first["audit"] if entry["stage"] == "refused"
    }
    assert refused == {
        "commanded/learning_rate_factor/first": "replayed",
        "commanded/learning_rate_factor/too high": "bounds",
    }
    assert entries(second, "refused") == {}


def test_control_without_commands_changes_no_bit(results: list[Any]) -> None:
    for result in results:
        off, idle = result["off"], result["idle"]
        begin, end = idle["running"]
        assert (begin < STEPS / 2, end, idle["breaks"]) == (True, STEPS - 1, 0)
        for key in ("losses", "parameters", "inside", "between"):
            assert idle[key] == off[key]
        assert off["losses"][0] != off["losses"][-1], "nothing was trained"
        assert idle["audit"] == []
    assert results[0]["idle"]["running"] == results[1]["idle"]["running"]


@pytest.mark.parametrize("scenario", ["one_rank", "differing", "absent"])
def test_what_ranks_do_not_share_is_refused_and_training_is_as_without(
    results: list[Any], scenario: str
) -> None:
    for result in results:
        assert result[scenario]["running"] == []
        for key in ("losses", "parameters"):
            assert result[scenario][key] == result["off"][key]


def test_control_on_one_rank_is_an_error_on_both(results: list[Any]) -> None:
    on, off = (lines(result["one_rank"], "ERROR") for result in results)
    assert len(on) == len(off) == 1
    assert "off on 1 of 2 ranks" in on[0]
    assert "another rank has control on" in off[0]


def test_differing_settings_are_an_error_on_both(results: list[Any]) -> None:
    for result in results:
        (line,) = lines(result["differing"], "ERROR")
        assert "differ" in line


def test_a_rank_without_the_agent_is_waited_for_and_named(results: list[Any]) -> None:
    (line,) = lines(results[0]["absent"], "ERROR")
    assert "only 1 of 2 ranks answered within 1 s" in line
    assert results[1]["absent"]["log"] == []


def test_a_rank_that_detaches_ends_control_and_leaves_the_factor_alike(results: list[Any]) -> None:
    first, second = (result["detaching"] for result in results)
    (line, *_) = lines(first, "ERROR")
    assert "control ended after step" in line
    assert (first["breaks"], second["breaks"]) == (1, 0)
    assert len(first["losses"]) == len(second["losses"]) == STEPS
    assert first["inside"] == second["inside"]
    assert first["factor"] == second["factor"] == 0.5
    assert "stays in force" in "".join(second["log"])
    lost = entries(first, "failed")["detaching/learning_rate_factor/lost"]
    assert "control ended" in lost["details"]["error"]


def test_a_rank_that_detaches_under_a_command_still_obeys_it(results: list[Any]) -> None:
    """The others cannot know that it left, so it acts at the boundary at which they do."""
    first, second = (result["leaving"] for result in results)
    assert first["factor"] == second["factor"] == 0.25
    assert first["inside"] == second["inside"]
    for result in (first, second):
        assert list(entries(result, "applied")) == ["leaving/learning_rate_factor/under way"]


def test_a_checkpoint_is_written_and_loads(results: list[Any]) -> None:
    for result in results:
        entry = entries(result["ending"], "applied")["ending/checkpoint/"]
        assert result["resumed"]["steps"] == entry["step"]
        assert f"infoplane-step{entry['step']}" in result["resumed"]["path"]


def test_stop_ends_both_ranks_at_the_same_step(results: list[Any]) -> None:
    first, second = (result["ending"] for result in results)
    assert len(first["losses"]) == len(second["losses"]) < STEPS
    assert entries(first, "applied")["ending/stop/"]["step"] == len(first["losses"])
    assert entries(second, "applied")["ending/stop/"]["step"] == len(second["losses"])
