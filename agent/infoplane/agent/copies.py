"""How a slot's bytes get from the device to the host: begun at a boundary, never waited for while training runs."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

Bytes = npt.NDArray[np.uint8]


class HostCopy(Protocol):
    """The host's side of one device buffer.

    Attributes:
        array: the bytes on the host, uint8 (nbytes,); valid from `is_done` to the next `start`.
    """

    array: Bytes

    def start(self) -> None:
        """Begin the copy; returns at once."""
        ...

    def is_done(self) -> bool:
        """Return whether `array` may be read; never waits."""
        ...

    def wait(self) -> None:
        """Wait for the copy: at the end of the run only."""
        ...


class SharedMemory:
    """On a CPU, device and host are the same memory: the copy is done before it starts."""

    def __init__(self, flat: torch.Tensor) -> None:
        self.array: Bytes = flat.numpy()

    def start(self) -> None:
        """Do nothing."""

    def is_done(self) -> bool:
        """Return True."""
        return True

    def wait(self) -> None:
        """Do nothing."""


class PinnedCopy:
    """One asynchronous copy into pinned memory, on a stream beside training's.

    The side stream waits for what training's stream has queued so far, so the taps of this step are in the buffer.
    Nothing writes to the buffer before the slot is taken again, which is after the copy: no `record_stream` is needed.

    Args:
        flat: buffer on the device, uint8 (nbytes,).
        stream: side stream, shared by all slots of a ring.
    """

    def __init__(self, flat: torch.Tensor, stream: torch.cuda.Stream) -> None:
        self._flat = flat
        self._stream = stream
        self._pinned = torch.zeros(flat.shape, dtype=torch.uint8, pin_memory=True)
        self._written, self._copied = _event(), _event()
        self.array: Bytes = self._pinned.numpy()

    def start(self) -> None:
        """Queue the copy behind the taps."""
        self._written.record()
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(self._written)
            self._pinned.copy_(self._flat, non_blocking=True)
            self._copied.record()

    def is_done(self) -> bool:
        """Ask the event."""
        return bool(self._copied.query())

    def wait(self) -> None:
        """Wait for the event."""
        self._copied.synchronize()


def _event() -> Any:
    return torch.cuda.Event()  # type: ignore[no-untyped-call]
