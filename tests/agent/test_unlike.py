from __future__ import annotations

import logging
import time
from typing import Any

import pytest
import torch.distributed as dist

from infoplane.agent import rendezvous, unlike
from infoplane.agent.counters import Counters
from infoplane.agent.identity import Coordinates, Identity
from infoplane.agent.settings import ConfigSettings, KafkaSettings, SamplingSettings, Settings


def _compare(monkeypatch: Any, first: Settings, second: Settings) -> Counters:
    store = dist.HashStore()
    monkeypatch.setattr(rendezvous, "store", lambda: store)
    counters = Counters()
    unlike.compare_settings(second, Identity("r", 1, Coordinates(rank=1, world=2)), counters)
    unlike.compare_settings(first, Identity("r", 1, Coordinates(rank=0, world=2)), Counters())
    deadline = time.monotonic() + 20
    while _threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _threads()
    return counters


def _threads() -> list[str]:
    import threading

    return [t.name for t in threading.enumerate() if t.name == "infoplane-compare"]


def test_equal_settings_say_nothing(monkeypatch: Any, caplog: pytest.LogCaptureFixture) -> None:
    counters = _compare(monkeypatch, Settings(), Settings(exit_timeout_s=1.0))
    assert not caplog.records
    assert not counters.snapshot()


def test_a_difference_names_key_and_both_values(
    monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    other = Settings(transport="file", kafka=KafkaSettings(topic_prefix="x."))
    with caplog.at_level(logging.ERROR, "infoplane.agent"):
        counters = _compare(monkeypatch, Settings(), other)
    assert "kafka.topic_prefix is 'x.' here, 'infoplane.' on rank 0" in caplog.text
    assert "transport is 'file' here, 'kafka' on rank 0" in caplog.text
    assert counters.snapshot()["settings_differ", ""] == 2


def test_a_rank_0_that_never_attaches_is_reported(
    monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rendezvous, "store", dist.HashStore)
    monkeypatch.setattr(unlike, "_PATIENCE_S", 0.05)
    with caplog.at_level(logging.ERROR, "infoplane.agent"):
        unlike.compare_settings(
            Settings(), Identity("r", 1, Coordinates(rank=1, world=2)), Counters()
        )
        deadline = time.monotonic() + 20
        while _threads() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "rank 0 did not attach" in caplog.text


def test_nothing_secret_and_nothing_of_one_rank_is_compared() -> None:
    keys = unlike.shared_settings(Settings())
    assert {"transport", "sampling.base_level", "tokens.mode", "taps.block"} <= set(keys)
    assert not {"run", "attempt", "file.path", "exit_timeout_s"} & set(keys)
    assert not any(key.startswith("control.") for key in keys)


def test_ranks_that_would_sample_or_read_directives_differently_are_told(
    monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    other = Settings(
        sampling=SamplingSettings(novel_fraction=0.25), config=ConfigSettings(enabled=True)
    )
    with caplog.at_level(logging.ERROR, "infoplane.agent"):
        counters = _compare(monkeypatch, Settings(), other)
    assert "sampling.novel_fraction is 0.25 here, 0.0 on rank 0" in caplog.text
    assert "config.enabled is True here, False on rank 0" in caplog.text
    assert counters.snapshot()["settings_differ", ""] == 2
