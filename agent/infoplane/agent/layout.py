"""One flat buffer with named, typed regions: everything of one sampled step, copied off the device at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

_ALIGNMENT: Final = 64
_NUMPY: Final[dict[torch.dtype, type[np.generic]]] = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.uint8: np.uint8,
}


@dataclass(frozen=True, slots=True)
class Region:
    """A named array inside the buffer: `shape` of `dtype` at byte `offset`."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


class Layout:
    """Places regions one after the other, each aligned to 64 bytes."""

    def __init__(self) -> None:
        self.regions: list[Region] = []
        self.nbytes = 0

    def add(self, name: str, dtype: torch.dtype, *shape: int) -> None:
        """Append a region."""
        region = Region(name, dtype, shape, self.nbytes)
        self.regions.append(region)
        self.nbytes += -(-region.nbytes // _ALIGNMENT) * _ALIGNMENT

    def tensors(self, flat: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return views into `flat`, uint8 (nbytes,), by name."""
        return {
            r.name: flat[r.offset : r.offset + r.nbytes].view(r.dtype).view(r.shape)
            for r in self.regions
        }

    def arrays(self, flat: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
        """Return the same views as numpy arrays, for the thread that must not call torch."""
        return {
            r.name: flat[r.offset : r.offset + r.nbytes].view(_NUMPY[r.dtype]).reshape(r.shape)
            for r in self.regions
        }
