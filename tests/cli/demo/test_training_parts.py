"""The demo's data, plan and faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from infoplane.cli.demo.acting import prepare_acting
from infoplane.cli.demo.batches import Shard
from infoplane.cli.demo.faults import Fault
from infoplane.cli.demo.model import ByteTransformer
from infoplane.cli.demo.plan import WINDOW_STEPS, Plan
from infoplane.cli.demo.text import standard_library_text
from infoplane.cli.demo.training import rate_in_step
from infoplane.collector.settings import PolicySection
from infoplane.controller.policy import engine_maker
from infoplane.wire import ConfigurationError


@pytest.fixture(scope="module")
def text() -> np.ndarray:
    return standard_library_text(1 << 20)


def test_the_text_is_python_and_the_same_every_time(text: np.ndarray) -> None:
    assert len(text) == 1 << 20
    assert b"def " in text.tobytes()
    assert np.array_equal(text, standard_library_text(1 << 20))


def test_batches_are_a_function_of_seed_rank_and_step(text: np.ndarray) -> None:
    shard = Shard(text, 0, 2, 1, 4, 16)
    tokens, targets = shard.at(3)
    assert tokens.shape == targets.shape == (4, 16)
    assert torch.equal(tokens[:, 1:], targets[:, :-1])
    assert torch.equal(tokens, Shard(text, 0, 2, 1, 4, 16).at(3)[0])
    for other in (
        shard.at(4),
        Shard(text, 1, 2, 1, 4, 16).at(3),
        Shard(text, 0, 2, 2, 4, 16).at(3),
    ):
        assert not torch.equal(tokens, other[0])


def test_ranks_read_different_halves() -> None:
    halves = np.concatenate([np.zeros(5000), np.ones(5000)]).astype(np.uint8)
    assert Shard(halves, 0, 2, 1, 8, 16).at(0)[0].unique().tolist() == [0]
    assert Shard(halves, 1, 2, 1, 8, 16).at(0)[0].unique().tolist() == [1]


def test_a_damaged_shard_is_noise_over_all_bytes(text: np.ndarray) -> None:
    tokens, _ = Shard(text, 0, 1, 1, 64, 128).at(0, random_bytes=True)
    assert tokens.min() == 0
    assert tokens.max() == 255
    assert tokens.float().mean() == pytest.approx(127.5, abs=3)


def test_shuffled_labels_keep_their_distribution(text: np.ndarray) -> None:
    plain = Shard(text, 0, 1, 1, 4, 64).at(0)
    shuffled = Shard(text, 0, 1, 1, 4, 64, shuffle_labels=True).at(0)
    assert torch.equal(plain[0], shuffled[0])
    assert not torch.equal(plain[1], shuffled[1])
    assert torch.equal(plain[1].flatten().sort().values, shuffled[1].flatten().sort().values)


def test_the_plan_warms_up_and_comes_down() -> None:
    plan = Plan(400)
    rates = [plan.learning_rate(step) for step in range(400)]
    assert rates[0] == pytest.approx(1e-3 / 40)
    assert max(rates) == pytest.approx(1e-3)
    assert rates[-1] == pytest.approx(1e-4, rel=0.01)
    assert plan.fault_step is None


@pytest.mark.parametrize("steps", [64, 160, 400, 403])
def test_a_fault_begins_at_a_window_and_leaves_time_to_see_it(steps: int) -> None:
    start = Plan(steps, fault="lr").fault_step
    assert start is not None
    assert start % WINDOW_STEPS == 0
    assert 0.5 * steps < start < 0.75 * steps


def test_a_run_without_windows_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="steps = 10: expected at least 64"):
        Plan(10)


def test_the_learning_rate_fault_leaves_the_announced_plan_alone() -> None:
    plan = Plan(400, fault="lr")
    fault = Fault(plan)
    factors = [fault.learning_rate_factor(step) for step in range(400)]
    assert factors.count(20.0) == 16
    assert factors[240] == factors[255] == 20.0
    assert [plan.announce(step) for step in range(400)] == [
        Plan(400).announce(step) for step in range(400)
    ]


def test_the_data_fault_hits_the_last_rank_only() -> None:
    fault = Fault(Plan(400, fault="shard"))
    assert not fault.damages_data(240, 0, 2)
    assert fault.damages_data(240, 1, 2)
    assert not fault.damages_data(239, 1, 2)


def test_a_healthy_run_has_no_fault_at_any_step() -> None:
    fault = Fault(Plan(400))
    assert not any(fault.is_active(step) or fault.damages_data(step, 1, 2) for step in range(400))


def test_the_model_learns_and_names_every_writer_of_the_residual_stream() -> None:
    torch.manual_seed(0)
    model = ByteTransformer(32, 2, 2, 16)
    assert len(list(model.residual_writers())) == 2 + 2 * 2
    for parameter, axis in model.residual_writers():
        assert parameter.shape[axis] == 32
    tokens = torch.randint(0, 8, (4, 16))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    first = loss = model(tokens, tokens)
    for _ in range(20):
        loss = model(tokens, tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * first.item()


def test_the_rate_is_read_inside_the_step_behind_whoever_changes_it() -> None:
    class Wrapped:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)

    class Engine:
        optimizer = Wrapped()

    inner, told = Wrapped.optimizer, []

    def cut(optimizer: torch.optim.Optimizer, *_: object) -> None:
        optimizer.param_groups[0]["lr"] *= 0.1

    with rate_in_step(Engine(), told.append):
        inner.step()
    handle = inner.register_step_pre_hook(cut)
    with rate_in_step(Engine(), told.append):
        inner.step()
    handle.remove()
    inner.step()
    assert told == [0.5, pytest.approx(0.05)]


def test_acting_names_the_private_key_to_the_controller_alone(tmp_path: Path) -> None:
    acting = prepare_acting(tmp_path)
    section = PolicySection(
        file=acting.controller["INFOPLANE_POLICY__FILE"],
        private_key_file=acting.controller["INFOPLANE_POLICY__PRIVATE_KEY_FILE"],
    )
    maker = engine_maker(section)
    assert maker is not None
    assert maker().policy.mode == "enforce"
    assert not any("control.key" in value for value in acting.job.values())
    assert acting.job["INFOPLANE_CONTROL__PUBLIC_KEYS"].endswith("control.pub")
