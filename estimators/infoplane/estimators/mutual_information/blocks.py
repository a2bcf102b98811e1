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


def squared_distances(x: Tensor, rows: slice) -> Tensor:
    """Return squared Euclidean distances of some rows to all, own distance infinite.

    Args:
        x: Shape ``(..., n, d)``, float64, centred: the expansion |a|^2 + |b|^2 - 2ab loses
            about 1e-16 |x|^2.
        rows: Which rows to measure from, b of them.

    Returns:
        Shape ``(..., b, n)``.
    """
    part = x[..., rows, :]
    norms = x.square().sum(-1)
    if x.shape[-1] == 1:
        # Exact and cheaper than the expansion.
        distances = (part - x.mT).square_()
    else:
        distances = torch.matmul(part, x.mT).mul_(-2.0)
        distances.add_(norms[..., rows].unsqueeze(-1)).add_(norms.unsqueeze(-2))
    distances.diagonal(offset=rows.start, dim1=-2, dim2=-1).fill_(torch.inf)
    return distances


def count_below(distances: Tensor, radius: Tensor) -> Tensor:
    """Return how many ``distances (..., b, n)`` are below ``radius (..., b)``; int64."""
    return (distances < radius.unsqueeze(-1)).sum(-1, dtype=torch.int32).to(torch.int64)
