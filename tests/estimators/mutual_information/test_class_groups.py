from __future__ import annotations

import pytest
import torch

from infoplane.estimators.mutual_information import blocks
from infoplane.estimators.mutual_information.class_groups import (
    class_groups,
    class_sizes,
    item_runs,
    kernel_terms,
    label_orders,
)


def labels_of(t: int, p: int, n: int) -> torch.Tensor:
    """Return labels of very unequal classes."""
    draws = torch.rand(t, p, n, generator=torch.Generator().manual_seed(0))
    return (20 * draws**3).long()


def test_every_row_with_company_is_in_one_group_with_its_class():
    labels = labels_of(2, 3, 90)
    flat, sizes = labels.flatten(), class_sizes(labels).flatten()
    seen = torch.zeros(labels.numel(), dtype=torch.int64)
    for group in class_groups(labels):
        smallest = int(group.held.sum(-1).min())
        assert 2 * smallest > group.held.shape[1] - 1
        for places, held in zip(group.places, group.held, strict=True):
            kept = places[held]
            seen[kept] += 1
            table = kept // 90
            assert len(set(table.tolist())) == len(set(flat[kept].tolist())) == 1
            assert int(sizes[kept[0]]) == kept.numel()
    assert torch.equal(seen, (sizes > 1).long())


@pytest.mark.parametrize("noisy", [False, True])
def test_terms_are_those_of_the_definition(noisy: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(blocks, "FEWEST_ROWS", 3)
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", 200)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 40, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, 40, 3, generator=generator, dtype=torch.float64) if noisy else None
    labels = labels_of(2, 2, 40)
    found = kernel_terms(
        x,
        class_groups(labels),
        (2, 2, 40),
        noise=noise,
        reduce=lambda a: a.exp().sum(-1).unsqueeze(0),
        parts=1,
    )[0]
    z = x if noise is None else x + noise
    near = -0.5 * (z.unsqueeze(2) - x.unsqueeze(1)).square().sum(-1)
    ratio = (near - near.diagonal(dim1=1, dim2=2).unsqueeze(-1)).exp().unsqueeze(1)
    same = labels.unsqueeze(-1) == labels.unsqueeze(-2)
    expected = (ratio * same).sum(-1) * (class_sizes(labels) > 1)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_orders_begin_with_the_labels_themselves():
    labels = torch.tensor([[7, 7, 3, 9, 3]])
    orders = label_orders(labels, [5], 4)
    assert orders[0, 0].tolist() == [1, 1, 0, 2, 0]
    assert all(sorted(row.tolist()) == [0, 0, 1, 1, 2] for row in orders[0])
    assert len({tuple(row.tolist()) for row in orders[0]}) > 2


def test_runs_cover_all_items():
    runs = list(item_runs(torch.empty(10, 1 << 10, 1 << 10, device="meta")))
    assert [i for run in runs for i in range(run.start, run.stop)] == list(range(10))
    assert list(item_runs(torch.empty(0, 4, 4))) == []
