"""Row orders."""

from __future__ import annotations

import torch

from infoplane.estimators.mutual_information.pairings import row_orders, take_rows


def test_orders_are_permutations_of_their_own_seed() -> None:
    orders = row_orders([5, -3], 20, permutations=2, device=torch.device("cpu"))
    assert orders.shape == (2, 3, 20)
    assert torch.equal(orders.sort(-1).values, torch.arange(20).expand(2, 3, 20))
    alone = row_orders([-3], 20, permutations=2, device=torch.device("cpu"))
    assert torch.equal(orders[1], alone[0])
    x = torch.randn(2, 20, 3)
    assert torch.equal(take_rows(x, orders)[1, 2], x[1][orders[1, 2]])
