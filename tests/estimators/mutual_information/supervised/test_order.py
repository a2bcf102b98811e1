"""The order of rows depends on their content and on the seed, and on nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from infoplane.estimators.mutual_information.supervised.order import content_order


def test_rows_come_out_alike_however_they_go_in(data: SimpleNamespace) -> None:
    x, y = data.independent(2, 300, 5, seed=1)
    shuffle = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    order = content_order(x, y, seeds=[3, 4])
    again = content_order(x[:, shuffle], y[:, shuffle], seeds=[3, 4])
    assert torch.equal(shuffle[again], order)


def test_columns_sides_and_increasing_maps_do_not_matter(data: SimpleNamespace) -> None:
    x, y = data.independent(1, 300, 5, seed=1)
    order = content_order(x, y, seeds=[3])
    assert torch.equal(content_order(x[..., [3, 1, 0, 4, 2]], y.flip(-1), seeds=[3]), order)
    assert torch.equal(content_order(y, x, seeds=[3]), order)
    assert torch.equal(content_order(torch.exp(x), y**3, seeds=[3]), order)


def test_the_order_is_unrelated_to_content_and_changes_with_the_seed(
    data: SimpleNamespace,
) -> None:
    x, y = data.independent(1, 4000, 1, seed=5)
    first, second = (content_order(x, y, seeds=[seed])[0] for seed in (0, 1))
    assert sorted(first.tolist()) == list(range(4000))
    assert (first == second).float().mean() < 0.01
    position = torch.arange(4000, dtype=torch.float64)
    table = torch.corrcoef(torch.stack([position, x[0, first, 0], y[0, first, 0]]))
    assert table[0, 1:].abs().max() < 4.0 / 4000**0.5
