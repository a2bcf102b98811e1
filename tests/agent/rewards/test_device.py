"""Values on a device: nothing on the caller's thread may read them. A meta tensor raises where one would."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from infoplane.agent.rewards.contents import Padded
from infoplane.agent.rewards.device import arrival_of, to_host


def meta(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


class Pending:
    def is_done(self) -> bool:
        return False


@pytest.mark.parametrize("form", ["rows", "ragged", "own", "mixed", "padded"])
def test_observing_reads_nothing_from_a_device(make_bench: Callable[..., Any], form: str) -> None:
    ids = meta(3, 9, dtype=torch.int64)
    mask = meta(3, 9, dtype=torch.bool)
    contents: Any = {
        "rows": ids,
        "ragged": list(ids),
        "own": ids[:, 0],
        "mixed": ["a", ids[0], 3],
        "padded": Padded(ids, mask),
    }
    bench = make_bench(arrivals=lambda tensors: Pending() if list(tensors) else None)
    bench.roll(
        contents[form],
        ids,
        reward=meta(3),
        entropy=[meta(), meta(1), meta()],
        log_prob=meta(3, 9),
        value=meta(3, 9, dtype=torch.float32),
        mask=mask,
        features=meta(3, 64, dtype=torch.float32),
    )
    assert bench.dropped() == {}
    assert len(bench.log._waiting) == 1
    with pytest.raises(NotImplementedError, match="meta"):
        to_host(meta(3), torch.float64)


class Event:
    done = False

    def query(self) -> bool:
        return self.done


def test_values_on_several_devices_have_arrived_when_all_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: dict[torch.device, Event] = {}

    def stream(device: torch.device) -> Any:
        return SimpleNamespace(record_event=lambda: events.setdefault(device, Event()))

    monkeypatch.setattr(torch.cuda, "current_stream", stream)
    assert arrival_of([torch.ones(1)]) is None
    devices = [torch.device("cuda", i) for i in (0, 1, 1)] + [torch.device("cpu")]
    arrival: Any = arrival_of([SimpleNamespace(device=device) for device in devices])  # type: ignore[misc]
    assert len(events) == 2
    assert not arrival.is_done()
    for event in events.values():
        assert not arrival.is_done()
        event.done = True
    assert arrival.is_done()
