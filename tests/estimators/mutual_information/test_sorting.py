"""Sorting and counting: numpy's way equals torch's, ties included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from infoplane.estimators.mutual_information import sorting
from infoplane.estimators.mutual_information.sorting import (
    count_within,
    sorted_values,
    sorted_with_order,
)


def whole(kind: str, dtype: torch.dtype) -> Tensor:
    """Return whole numbers ``(3, 400)``: far apart, mostly equal, or at the type's ends."""
    generator = torch.Generator().manual_seed(3)
    wide = 2**29 if dtype == torch.int32 else 2**51
    low, high = {"spread": (-wide, wide), "tied": (-4, 5), "ends": (-1, 2)}[kind]
    found = torch.randint(low, high, (3, 400), generator=generator)
    return (found * wide if kind == "ends" else found).to(dtype)


@pytest.mark.parametrize("kind", ["spread", "tied", "ends"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.float64])
def test_sorting_equals_torch(kind: str, dtype: torch.dtype) -> None:
    values = whole(kind, dtype)
    expected = values.sort(-1).values
    assert torch.equal(sorted_values(values), expected)
    found, order = sorted_with_order(values)
    assert torch.equal(found, expected)
    assert torch.equal(values.gather(-1, order), expected)
    assert torch.equal(order.sort(-1).values, torch.arange(400).expand(3, 400))


@pytest.mark.parametrize("kind", ["spread", "tied", "ends"])
@pytest.mark.parametrize("dtype", [torch.int32, torch.float64])
def test_counts_equal_a_search_and_a_plain_comparison(kind: str, dtype: torch.dtype) -> None:
    values = whole(kind, dtype)
    ordered = sorted_values(values)
    distance = (values.unsqueeze(-1).double() - values.unsqueeze(-2).double()).abs()
    for place in (0, 1, 20, 200):
        # On a neighbour's edge exactly, where a wrong side would show.
        radius = distance.sort(-1).values[..., place]
        if kind != "spread":
            radius = radius.clamp(min=1.0)
        limit = radius.clamp(max=2.0**30) if dtype == torch.int32 else radius
        plain = (distance < limit.unsqueeze(-1)).sum(-1) - 1
        found = count_within(ordered, values, limit.to(dtype))
        assert torch.equal(found, plain.clamp(min=0))
        assert torch.equal(found, sorting._by_search(ordered, values, limit.to(dtype)))
