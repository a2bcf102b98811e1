"""The random projection R of shape (d, r): R_ij = +1/sqrt(r) or -1/sqrt(r) from a hash of (version, seed, d, i, j).

A constant of the deployment: not a function of run, tap or rank, so projected rows of different
ranks, runs and layers of one width live in the same space. E|x R|^2 = |x|^2, with relative
standard deviation about sqrt(2 / r) (0.18 for r = 64) for one row. Source: Achlioptas,
"Database-friendly random projections", JCSS 2003.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from infoplane.agent.hashing import chain, mix_array, mix_tensor, signed

VERSION: Final = 1


class Projection:
    """Builds R once per (width, device) and keeps it.

    Args:
        dim: r, columns of R.
        seed: of the deployment; part of every metric's identity.
    """

    def __init__(self, dim: int, seed: int) -> None:
        self.dim = dim
        self.seed = seed
        self._matrices: dict[tuple[int, torch.device], torch.Tensor] = {}

    def matrix(self, width: int, device: torch.device) -> torch.Tensor:
        """Return R, float32 (width, dim) on `device`.

        The first call per width costs about 30 ns per element and 4 width dim bytes for good; no
        host sync.
        """
        found = self._matrices.get((width, device))
        if found is None:
            found = self._matrices[(width, device)] = _build(width, self.dim, self.seed, device)
        return found


def _build(width: int, dim: int, seed: int, device: torch.device) -> torch.Tensor:
    rows = torch.arange(width, dtype=torch.int64, device=device).unsqueeze(1)
    columns = torch.arange(dim, dtype=torch.int64, device=device)
    cell = (rows << 32) | columns
    is_negative = mix_tensor(cell ^ signed(chain(VERSION, seed, width))) < 0
    scale = 1.0 / math.sqrt(dim)
    return torch.full((width, dim), scale, device=device).masked_fill_(is_negative, -scale)


def projection_matrix(width: int, dim: int, seed: int) -> npt.NDArray[np.float32]:
    """Return R as numpy, float32 (width, dim): equal to `Projection.matrix` bit by bit."""
    rows = np.arange(width, dtype=np.uint64)[:, None]
    cell = (rows << np.uint64(32)) | np.arange(dim, dtype=np.uint64)
    is_negative = mix_array(cell ^ np.uint64(chain(VERSION, seed, width))) >> np.uint64(63)
    scale = np.float32(1.0 / math.sqrt(dim))
    return np.where(is_negative == 1, -scale, scale).astype(np.float32)
