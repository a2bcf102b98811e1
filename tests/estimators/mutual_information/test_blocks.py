"""Blocks cover everything within their budget."""

from __future__ import annotations

import torch

from infoplane.estimators.mutual_information.blocks import (
    BLOCK_ELEMENTS,
    Distances,
    blocks,
    count_below,
)


def test_blocks_cover_every_row_once_within_budget() -> None:
    for t, n, width in ((7, 100, 2), (2, 3000, 5), (1, 1, 1)):
        seen = torch.zeros(t, n, dtype=torch.long)
        for items, rows in blocks(t, n, width, torch.device("cpu")):
            seen[items, rows] += 1
            size = (items.stop - items.start) * (rows.stop - rows.start) * n * width
            assert size <= max(BLOCK_ELEMENTS["cpu"], n * width)
        assert bool((seen == 1).all())


def test_distances_equal_direct_ones_and_skip_the_row_itself() -> None:
    x = torch.randn(2, 30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = Distances(x + 1000.0).block(slice(0, 2), slice(10, 20))
    expected = torch.cdist(x[:, 10:20], x).square()
    mask = torch.eye(30, dtype=torch.bool)[10:20].expand(2, 10, 30)
    torch.testing.assert_close(found[~mask], expected[~mask], rtol=1e-9, atol=1e-9)
    assert bool(found[mask].isinf().all())


def test_counts() -> None:
    distances = torch.tensor([[1.0, 2.0, 3.0]])
    assert count_below(distances, torch.tensor([2.0])).tolist() == [1]
    assert count_below(distances, torch.tensor([2.0]), inclusive=True).tolist() == [2]
