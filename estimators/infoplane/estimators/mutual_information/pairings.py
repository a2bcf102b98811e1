"""Seeded orders of rows: for splits, and for breaking a pairing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def row_orders(seeds: Sequence[int], n: int, *, permutations: int, device: torch.device) -> Tensor:
    """Return random orders of ``n`` rows, ``1 + permutations`` for every seed.

    Drawn on the CPU, so that a seed gives the same orders on every device, and one generator
    per item, so that an item's orders do not depend on its batch.

    Returns:
        Shape ``(t, 1 + permutations, n)``.
    """
    items = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed % 2**63)
        items.append(
            torch.stack([torch.randperm(n, generator=generator) for _ in range(1 + permutations)])
        )
    return torch.stack(items).to(device)


def take_rows(x: Tensor, order: Tensor) -> Tensor:
    """Return rows of ``x (t, n, d)`` in every order of ``order (t, p, n)``: ``(t, p, n, d)``."""
    t, p, n = order.shape
    index = order.reshape(t, p * n, 1).expand(-1, -1, x.shape[-1])
    return x.gather(1, index).reshape(t, p, n, x.shape[-1])
