"""The tee in DeepSpeed's monitor, on stand-ins; tests/integration has it in a real engine."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from infoplane.agent.frameworks.deepspeed_monitor import MonitorTee, tee_events

EVENTS = [("Train/Samples/lr", 0.1, 8), ("Train/Samples/loss_scale", 2.0, 8)]


class Backend:
    """What DeepSpeed's MonitorMaster looks like from outside."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self.tb_monitor = "a backend"
        self.written: list[Any] = []

    def write_events(self, event_list: list[Any]) -> None:
        self.written.append(event_list)


class DeepSpeedEngine(nn.Module):
    def __init__(self, enabled: bool) -> None:
        super().__init__()
        self.monitor: Any = Backend(enabled)


class PipelineEngine(DeepSpeedEngine):
    pass


@pytest.mark.parametrize("enabled", [True, False])
def test_events_go_to_the_agent_and_to_backends_that_are_on(enabled: bool) -> None:
    engine, logged = DeepSpeedEngine(enabled), {}
    own = engine.monitor
    end = tee_events(engine, logged.update)
    assert engine.monitor.enabled
    assert engine.monitor.tb_monitor == "a backend"
    engine.monitor.write_events(EVENTS)
    assert logged == {"Train/Samples/lr": 0.1, "Train/Samples/loss_scale": 2.0}
    assert own.written == ([EVENTS] if enabled else [])
    end()
    assert engine.monitor is own


@pytest.mark.parametrize("enabled", [True, False])
def test_a_pipeline_is_asked_for_events_only_if_its_user_does(enabled: bool) -> None:
    engine = PipelineEngine(enabled)
    tee_events(engine, lambda values: None)
    assert engine.monitor.enabled == enabled


def test_a_monitor_that_somebody_put_around_the_tee_stays_and_the_tee_is_silent() -> None:
    engine, logged = DeepSpeedEngine(False), {}
    end = tee_events(engine, logged.update)
    outer = engine.monitor = MonitorTee(engine.monitor, lambda values: None, asks=True)
    end()
    assert engine.monitor is outer
    outer.write_events(EVENTS)
    assert logged == {}


def test_an_error_of_the_agent_does_not_come_out(caplog: pytest.LogCaptureFixture) -> None:
    def fail(values: Any) -> None:
        raise ArithmeticError("drill")

    engine = DeepSpeedEngine(True)
    tee_events(engine, fail)
    engine.monitor.write_events(EVENTS)
    engine.monitor.write_events(EVENTS)
    assert caplog.text.count("cannot be read") == 1


def test_an_engine_without_a_monitor_is_left_alone() -> None:
    engine: Any = DeepSpeedEngine(False)
    del engine.monitor
    tee_events(engine, lambda values: None)()
    assert not hasattr(engine, "monitor")
