"""Blocks cover everything within their budget; distances and their error; searches and counts."""

from __future__ import annotations

import pytest
import torch

from infoplane.estimators.mutual_information.blocks import (
    BLOCK_ELEMENTS,
    FEWEST_ROWS,
    Distances,
    Scratch,
    blocks,
    count_below,
    kth_smallest,
)


def test_blocks_cover_every_row_once_within_budget() -> None:
    for t, n, width in ((7, 100, 2), (2, 3000, 5), (1, 1, 1)):
        seen = torch.zeros(t, n, dtype=torch.long)
        for items, rows in blocks(t, n, width, torch.device("cpu")):
            seen[items, rows] += 1
            size = (items.stop - items.start) * (rows.stop - rows.start) * n * width
            assert size <= max(BLOCK_ELEMENTS["cpu"], FEWEST_ROWS * n * width)
        assert bool((seen == 1).all())


def test_distances_equal_direct_ones_and_skip_the_row_itself() -> None:
    x = torch.randn(2, 30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    held = Distances(x + 1000.0)
    found = held.block(slice(0, 2), slice(10, 20), scratch=Scratch(), name="x")
    expected = torch.cdist(x[:, 10:20], x).square()
    mask = torch.eye(30, dtype=torch.bool)[10:20].expand(2, 10, 30)
    torch.testing.assert_close(found[~mask], expected[~mask], rtol=1e-9, atol=1e-9)
    assert bool(found[mask].isinf().all())
    some = Distances(x.unsqueeze(1)).of_rows((1, 0), torch.tensor([13, 11]))
    torch.testing.assert_close(some, found[1, [3, 1]], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("d", [2, 32, 64, 512])
@pytest.mark.parametrize("kind", ["normal", "clusters", "heavy", "one large column"])
def test_error_bounds_float32_distances_of_near_rows(d: int, kind: str) -> None:
    generator = torch.Generator().manual_seed(d)
    x = torch.randn(1, 400, d, generator=generator, dtype=torch.float64)
    if kind == "clusters":
        x = 20.0 * x[:, torch.randint(0, 8, (400,), generator=generator)] + x
    elif kind == "heavy":
        x = x / torch.rand(1, 400, 1, generator=generator, dtype=torch.float64)
    elif kind == "one large column":
        x[..., 0] *= 50.0
    everything = slice(0, 1), slice(0, 400)
    exact = Distances(x)
    single = exact.single()
    truth = exact.block(*everything, scratch=Scratch(), name="x")
    rough = single.block(*everything, scratch=Scratch(), name="x").double()
    near = truth.topk(20, largest=False)
    error = (near.values - rough.gather(-1, near.indices)).abs()
    for j in range(20):
        bound = single.error(*everything, near.values[..., j].float())
        assert bool((error[..., j] <= bound).all())


def test_scratch_is_taken_again() -> None:
    scratch, like = Scratch(), torch.zeros(1)
    first = scratch.take("a", (2, 3), like)
    assert scratch.take("a", (6,), like).data_ptr() == first.data_ptr()
    assert scratch.take("b", (6,), like).data_ptr() != first.data_ptr()
    assert scratch.take("a", (6,), like.double()).dtype == torch.float64
    assert scratch.take("a", (100,), like).shape == (100,)


@pytest.mark.parametrize("n", [20, 256, 1000, 1024, 4099])
@pytest.mark.parametrize("k", [1, 3, 5, 17])
def test_kth_smallest_equals_sorting(n: int, k: int) -> None:
    generator = torch.Generator().manual_seed(n + k)
    smooth = torch.rand(2, 5, n, generator=generator, dtype=torch.float64)
    for values in (smooth, (20 * smooth).round(), torch.zeros_like(smooth)):
        assert torch.equal(kth_smallest(values, k), values.sort(-1).values[..., k - 1])


def test_counts() -> None:
    distances = torch.tensor([[1.0, 2.0, 3.0]])
    assert count_below(distances, torch.tensor([2.0])).tolist() == [1]
    assert count_below(distances, torch.tensor([2.0]), inclusive=True).tolist() == [2]


def test_whole_numbers_tie_exactly() -> None:
    """Equal distances stay equal in float64, whatever the mean is."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-9, 10, (1, 101, 40), generator=generator).double()
    expected = (x.unsqueeze(-2) - x.unsqueeze(-3)).square().sum(-1)
    expected.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    for shift in (0.0, 1e5):
        held = Distances(x + shift)
        found = held.block(slice(0, 1), slice(0, 101), scratch=Scratch(), name="x")
        assert torch.equal(found, expected)


def test_constant_rows_are_at_distance_zero() -> None:
    held = Distances(torch.full((1, 20, 3), 1.0 / 3.0))
    found = held.block(slice(0, 1), slice(0, 20), scratch=Scratch(), name="x")
    assert bool((found[~torch.eye(20, dtype=torch.bool).expand(1, 20, 20)] == 0).all())


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.float64])
def test_both_searches_agree(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    values = (1000 * torch.rand(4, 512, generator=generator)).to(dtype)
    for k in (1, 3, 40):
        expected = values.topk(k, dim=-1, largest=False).values[..., -1]
        assert torch.equal(kth_smallest(values, k), expected)
