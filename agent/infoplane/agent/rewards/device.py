"""Values that are still being computed on a device: when they are there, and how they are read.

The caller's thread only enqueues work. The path for CUDA is not verified on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

Kept: TypeAlias = "torch.Tensor | npt.NDArray[Any]"
"""A copy that belongs to the agent."""


class Arrival(Protocol):
    """Tells when values on a device have been computed."""

    def is_done(self) -> bool:
        """Return whether they have; never waits."""
        ...


Arrivals: TypeAlias = Callable[[Iterable[torch.Tensor]], "Arrival | None"]
"""Returns the arrival of tensors, None where they may be read at once."""


class _CudaArrival:
    """Events on the streams that were current when the tensors were cloned."""

    def __init__(self, devices: Iterable[torch.device]) -> None:
        self._events: Sequence[Any] = [
            torch.cuda.current_stream(device).record_event() for device in devices
        ]

    def is_done(self) -> bool:
        return all(event.query() for event in self._events)


def arrival_of(tensors: Iterable[torch.Tensor]) -> Arrival | None:
    """Return the arrival of the CUDA tensors among `tensors`; None if there are none."""
    devices = {tensor.device for tensor in tensors if tensor.device.type == "cuda"}
    return _CudaArrival(devices) if devices else None


def to_host(kept: Kept, dtype: torch.dtype) -> npt.NDArray[Any]:
    """Return the values as numpy of `dtype`; publisher thread only, once they have arrived."""
    tensor = torch.from_numpy(kept) if isinstance(kept, np.ndarray) else kept
    return _read(tensor).to(dtype).numpy()


def _read(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.device.type != "cuda":
        return tensor.cpu()
    # A stream of its own, so that the copy neither waits for later training kernels nor holds them up.
    stream = torch.cuda.Stream(tensor.device)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(stream):
        return tensor.cpu()
