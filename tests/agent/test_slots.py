from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

from infoplane.agent import slots
from infoplane.agent.layout import Layout
from infoplane.agent.slots import Loan, SlotRing

CPU = torch.device("cpu")


def layout() -> Layout:
    made = Layout()
    made.add("bytes", torch.uint8, 3)
    made.add("matrix", torch.float32, 4, 5)
    made.add("wide", torch.float64, 7)
    made.add("keys", torch.int64, 2)
    return made


def test_regions_are_aligned_disjoint_and_the_same_memory_for_torch_and_numpy() -> None:
    made = layout()
    flat = torch.zeros(made.nbytes, dtype=torch.uint8)
    tensors, arrays = made.tensors(flat), made.arrays(flat.numpy())
    assert all(region.offset % 64 == 0 for region in made.regions)
    for number, (name, tensor) in enumerate(tensors.items(), 1):
        tensor.fill_(number)
        assert arrays[name].shape == tuple(tensor.shape)
    for number, array in enumerate(arrays.values(), 1):
        np.testing.assert_array_equal(array, number)
    assert [a.dtype for a in arrays.values()] == [np.uint8, np.float32, np.float64, np.int64]


def test_the_ring_lends_every_slot_once_and_then_none() -> None:
    ring = SlotRing(layout(), 2, CPU)
    assert ring.nbytes == 2 * layout().nbytes
    first, second = ring.take(), ring.take()
    assert first is not None
    assert second is not None
    assert first is not second
    assert ring.take() is None
    ring.put(first)
    assert ring.take() is first


def test_a_loan_returns_its_slot_when_the_last_holder_lets_go() -> None:
    ring = SlotRing(layout(), 1, CPU)
    slot = ring.take()
    assert slot is not None
    loan = Loan(ring, slot, 8)
    threads = [threading.Thread(target=loan.release) for _ in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ring.take() is None
    loan.release()
    assert ring.take() is slot


class SlowCopy:
    """The twin of a device's copy: the host sees the bytes only when the copy has been let through."""

    def __init__(self, flat: torch.Tensor) -> None:
        self._flat = flat
        self.array = np.zeros(flat.shape[0], np.uint8)
        self.queued: torch.Tensor | None = None
        self.may_pass = False

    def start(self) -> None:
        self.queued = self._flat.clone()

    def is_done(self) -> bool:
        if self.may_pass and self.queued is not None:
            np.copyto(self.array, self.queued.numpy())
            self.queued = None
        return self.queued is None

    def wait(self) -> None:
        self.may_pass = True
        self.is_done()


def test_the_host_sees_a_device_buffer_only_through_its_copy() -> None:
    made: list[SlowCopy] = []

    def make(flat: torch.Tensor) -> SlowCopy:
        made.append(SlowCopy(flat))
        return made[-1]

    slot = SlotRing(layout(), 1, CPU, make).take()
    assert slot is not None
    slot.device["matrix"].fill_(3)
    slot.start_copy()
    assert not slot.is_copied()
    assert not slot.host["matrix"].any()
    made[0].may_pass = True
    assert slot.is_copied()
    np.testing.assert_array_equal(slot.host["matrix"], 3)


def test_steps_whose_copy_is_under_way_wait_in_order_and_nothing_is_lost(
    make_loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code path of a GPU: copies that come late, handed over at a later boundary or at the end."""
    made: list[SlowCopy] = []

    def make(flat: torch.Tensor) -> SlowCopy:
        made.append(SlowCopy(flat))
        return made[-1]

    monkeypatch.setattr(slots, "_copies_of", lambda device: make)
    loop = make_loop(**{"buffers.slots": 2})
    for _ in range(4):
        loop.step()
    assert loop.records("sketch")[0].step == 0  # closing waits for copies
    sent = [record.step for record in loop.sent() if record.WhichOneof("body") == "sketch"]
    assert sent == [0, 1]
    stats = loop.monitor.stats()
    assert stats["records_dropped{no_slot}"] == 2 * len(loop.monitor.units)


def test_a_copy_that_is_done_frees_its_slot_at_the_next_boundary(
    make_loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[SlowCopy] = []

    def make(flat: torch.Tensor) -> SlowCopy:
        made.append(SlowCopy(flat))
        made[-1].may_pass = True
        return made[-1]

    monkeypatch.setattr(slots, "_copies_of", lambda device: make)
    loop = make_loop()
    for _ in range(4):
        loop.step()
    assert [record.step for record in loop.records("sketch")] == [0, 1, 2, 3]
