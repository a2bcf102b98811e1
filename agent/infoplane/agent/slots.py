"""Slots: the preallocated buffers of sampled steps on their way from the taps to the publisher."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import torch

from infoplane.agent.copies import HostCopy, PinnedCopy, SharedMemory
from infoplane.agent.layout import Layout


@dataclass(slots=True)
class Capture:
    """What is known about one sampled step besides its arrays.

    Attributes:
        step: the step.
        num_rows: rows of micro-batch 0; 0 until the first tap fired.
        k: rows sampled.
        widths: full width of every tap that fired, by tap name.
        columns: token columns that were written.
        vocabulary: width of the logits, 0 = not seen.
        notes: what probes know about the step on the host, by name of the probe.
    """

    step: int
    num_rows: int
    k: int
    widths: dict[str, int]
    columns: list[str]
    vocabulary: int
    notes: dict[str, Any] = field(default_factory=dict)


class Slot:
    """One buffer on the device and its host copy; on a CPU they are the same memory.

    Attributes:
        device: views that taps write to, by region name.
        host: the same regions for the publisher thread.
        capture: what was captured; replaced at every use.
    """

    def __init__(
        self,
        layout: Layout,
        device: torch.device,
        make_copy: Callable[[torch.Tensor], HostCopy] | None = None,
    ) -> None:
        flat = torch.zeros(layout.nbytes, dtype=torch.uint8, device=device)
        self._copy = (make_copy or _copies_of(device))(flat)
        self.device = layout.tensors(flat)
        self.host: dict[str, npt.NDArray[Any]] = layout.arrays(self._copy.array)
        self.nbytes = layout.nbytes
        self.capture = Capture(0, 0, 0, {}, [], 0)

    def start_copy(self) -> None:
        """Begin the copy to the host; returns at once."""
        self._copy.start()

    def is_copied(self) -> bool:
        """Return whether `host` may be read; never waits."""
        return self._copy.is_done()

    def wait(self) -> None:
        """Wait for the copy: at the end of the run only."""
        self._copy.wait()


class Loan:
    """A slot lent to the parcels of one step; it returns to its ring when all of them let go."""

    def __init__(self, ring: SlotRing, slot: Slot, holders: int) -> None:
        self.slot = slot
        self._ring = ring
        self._holders = holders
        self._lock = threading.Lock()

    def release(self) -> None:
        """Let go once; any thread."""
        with self._lock:
            self._holders -= 1
            is_last = self._holders == 0
        if is_last:
            self._ring.put(self.slot)


class SlotRing:
    """A fixed number of slots, all memory allocated here.

    Args:
        layout: regions of a slot.
        count: slots; host and device memory is count layout.nbytes each.
        device: where the taps' tensors are.
        make_copy: makes the host's side of a buffer; by the device if not given.
    """

    def __init__(
        self,
        layout: Layout,
        count: int,
        device: torch.device,
        make_copy: Callable[[torch.Tensor], HostCopy] | None = None,
    ) -> None:
        self.nbytes = count * layout.nbytes
        make = make_copy or _copies_of(device)
        self._free = deque(Slot(layout, device, make) for _ in range(count))

    def take(self) -> Slot | None:
        """Return a free slot, or None: the newest step is dropped then, nobody waits."""
        try:
            return self._free.popleft()
        except IndexError:
            return None

    def put(self, slot: Slot) -> None:
        """Give a slot back; any thread."""
        self._free.append(slot)


def _copies_of(device: torch.device) -> Callable[[torch.Tensor], HostCopy]:
    if device.type != "cuda":
        return SharedMemory
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return lambda flat: PinnedCopy(flat, stream)
