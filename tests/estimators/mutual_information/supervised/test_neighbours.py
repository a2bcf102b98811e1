"""Several k at once are the plain estimator's values; repeated rows count as points of mass."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from infoplane.estimators import ksg
from infoplane.estimators.mutual_information.supervised.neighbours import ksg_many


@pytest.mark.parametrize(("n", "d"), [(60, 1), (513, 3)])
def test_equal_to_one_k_at_a_time(data: SimpleNamespace, n: int, d: int) -> None:
    x, y = data.gaussian_pairs(5, n, d, seed=1, nats=0.7, directions=1)
    many = ksg_many([(x, y), (y, 2.0 * x)], ks=(2, 5, 12))
    first = torch.stack([ksg(x, y, k=k) for k in (2, 5, 12)], -1)
    second = torch.stack([ksg(y, 2.0 * x, k=k) for k in (2, 5, 12)], -1)
    assert torch.allclose(many, torch.cat([first, second], -1), atol=1e-12)


def test_repeated_rows_give_the_entropy_of_the_points() -> None:
    ids = torch.arange(400).remainder(8).unsqueeze(0)
    points = torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = ksg_many([(points[ids], points[ids] * 2.0)], ks=(2, 12))
    assert values[0].tolist() == pytest.approx([math.log(8.0)] * 2, abs=0.02)
