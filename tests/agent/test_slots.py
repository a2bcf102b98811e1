from __future__ import annotations

import threading

import numpy as np
import torch

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
