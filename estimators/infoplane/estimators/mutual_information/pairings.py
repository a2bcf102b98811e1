"""Seeded splits and permutations of rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def shuffled_rows(seeds: Sequence[int], n: int, device: torch.device) -> Tensor:
    """Return one random order of ``n`` rows per seed, shape ``(t, n)``.

    Drawn on the CPU, so that the same seed gives the same order on every device.
    """
    orders = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed % 2**63)
        orders.append(torch.randperm(n, generator=generator))
    return torch.stack(orders).to(device)


def null_orders(seeds: Sequence[int], n: int, count: int, device: torch.device) -> Tensor:
    """Return row orders that break a pairing, identity first, shape ``(t, 1 + count, n)``.

    The first and the second half of the rows are each permuted within themselves, so that
    statistics of one side of a half-split stay as they are.
    """
    half = n // 2
    identity = torch.arange(n)
    items = []
    for seed in seeds:
        # A stream of its own: the split is drawn from the seed itself.
        generator = torch.Generator().manual_seed((seed + 0x9E3779B97F4A7C15) % 2**63)
        drawn = [
            torch.cat(
                [
                    torch.randperm(half, generator=generator),
                    torch.randperm(n - half, generator=generator) + half,
                ]
            )
            for _ in range(count)
        ]
        items.append(torch.stack([identity, *drawn]))
    return torch.stack(items).to(device)


def take_rows(x: Tensor, order: Tensor) -> Tensor:
    """Return ``x (t, n, d)`` reordered by ``order (t, n)``."""
    return x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
