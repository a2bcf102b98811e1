"""The adapter's wrapping, on a stand-in of the engine; tests/integration runs the real one."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from infoplane.agent.frameworks import Unsupported, adapt
from infoplane.agent.frameworks.deepspeed import DeepSpeedAdapter, is_engine


class DeepSpeedEngine(nn.Module):
    """Counts like the real one: micro_steps on every call, global_steps at a boundary only."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(2, 2)
        self.global_steps = self.micro_steps = 0
        self.is_destroyed = False

    def step(self, offset: int = 0) -> str:
        self.micro_steps += 1
        if self.micro_steps % 2 == 0:
            self.global_steps += 1
        return f"result {offset}"

    def destroy(self) -> None:
        self.is_destroyed = True


class PipelineEngine(DeepSpeedEngine):
    """Its steps end in train_batch; tests/integration runs the real one."""


def test_boundaries_are_changes_of_global_steps() -> None:
    engine, seen = DeepSpeedEngine(), []
    adapter = adapt(engine, 0)
    assert isinstance(adapter, DeepSpeedAdapter)
    assert adapter.root is engine.module
    adapter.listen(seen.append, lambda: seen.append(-1), lambda: None)
    assert [engine.step(offset=i) for i in range(5)] == [f"result {i}" for i in range(5)]
    assert seen == [0, 1]
    engine.destroy()
    assert seen[-1] == -1
    assert engine.is_destroyed


def test_unlisten_restores_the_engine_unless_somebody_wrapped_it_again() -> None:
    engine = DeepSpeedEngine()
    adapter = DeepSpeedAdapter(engine)
    adapter.listen(lambda step: None, lambda: None, lambda: None)
    adapter.unlisten()
    assert "step" not in engine.__dict__
    adapter.listen(lambda step: None, lambda: None, lambda: None)
    foreign: Any = lambda: None  # noqa: E731
    engine.step = foreign
    adapter.unlisten()
    assert engine.step is foreign


def test_engines_are_told_from_modules() -> None:
    assert is_engine(DeepSpeedEngine())
    assert is_engine(PipelineEngine())
    assert not is_engine(nn.Linear(1, 1))
    with pytest.raises(Unsupported, match="str"):
        adapt("model", 0)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"infoplane": {"run": "x"}}, {"run": "x"}),
        ({}, {}),
        (None, {}),
        ({"infoplane": 3}, {"infoplane": 3}),
    ],
)
def test_the_section_of_the_config_is_found(parameters: Any, expected: Any) -> None:
    engine: Any = DeepSpeedEngine()
    engine._config = type("Config", (), {"_param_dict": parameters})()
    assert DeepSpeedAdapter(engine).section() == expected
