from __future__ import annotations

import logging

import pytest
import torch

from infoplane.agent.breaker import Breaker
from infoplane.agent.counters import Counters


def test_three_errors_end_a_tap_and_three_taps_end_all(caplog: pytest.LogCaptureFixture) -> None:
    counters = Counters()
    breaker = Breaker(counters)
    with caplog.at_level(logging.WARNING, "infoplane.agent"):
        for count, tap in enumerate(("a", "b", "c"), 1):
            for _ in range(2):
                breaker.record(tap, ValueError("x"))
            assert tap not in breaker.off
            breaker.record(tap, ValueError("x"))
            assert tap in breaker.off
            assert breaker.is_open is (count == 3)
        breaker.record("d", ValueError("x"))
    assert counters.total("taps_off") == 3
    assert counters.total("tap_errors") == 10
    assert sum("all taps are off" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        torch.cuda.OutOfMemoryError("CUDA out of memory"),
    ],
)
def test_memory_running_out_ends_all_at_once(error: Exception) -> None:
    breaker = Breaker(Counters())
    breaker.record("a", error)
    assert breaker.is_open
