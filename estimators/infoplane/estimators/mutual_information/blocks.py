"""Pairwise squared distances in blocks of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 26}
"""Elements of one distance block. On a CPU it should stay in the cache (4 MB)."""


def blocks(t: int, n: int, width: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Yield (items, rows) slices that cover ``t`` items of ``n`` rows.

    One block of distances to all rows has at most the element budget of the device, counted
    for ``width`` matrices per item.
    """
    budget = BLOCK_ELEMENTS.get(device.type, BLOCK_ELEMENTS["cuda"])
    rows = max(1, min(n, budget // (n * width)))
    items = max(1, budget // (n * n * width)) if rows == n else 1
    for i in range(0, t, items):
        for j in range(0, n, rows):
            yield slice(i, min(t, i + items)), slice(j, min(n, j + rows))


class Distances:
    """Squared Euclidean distances between rows, computed block by block.

    |a - b|^2 is written as one inner product of (-2a, |a|^2, 1) and (b, 1, |b|^2), so that a
    block costs one matrix product. It loses about 1e-16 |x|^2, hence rows are centred first.
    """

    def __init__(self, x: Tensor) -> None:
        """Prepare rows ``x`` of shape ``(..., n, d)``."""
        rows = x.to(torch.float64)
        rows = rows - rows.mean(-2, keepdim=True)
        norms = rows.square().sum(-1, keepdim=True)
        ones = torch.ones_like(norms)
        self._left = torch.cat([-2.0 * rows, norms, ones], -1)
        self._right = torch.cat([rows, ones, norms], -1).mT.contiguous()

    def block(self, items: slice, rows: slice) -> Tensor:
        """Return distances of some rows to all rows, shape ``(..., b, n)``.

        A row's distance to itself is infinite.
        """
        distances = self._left[items, ..., rows, :] @ self._right[items]
        distances.diagonal(offset=rows.start, dim1=-2, dim2=-1).fill_(torch.inf)
        return distances


def count_below(distances: Tensor, radius: Tensor, *, inclusive: bool = False) -> Tensor:
    """Return how many ``distances (..., b, n)`` are below ``radius (..., b)``; int64.

    Args:
        distances: Distances.
        radius: One per row.
        inclusive: Count those equal to the radius too.
    """
    limit = radius.unsqueeze(-1)
    inside = distances <= limit if inclusive else distances < limit
    return inside.sum(-1, dtype=torch.int32).to(torch.int64)
