"""Gaussian information with its exact correction."""

from __future__ import annotations

import math
from functools import reduce
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from infoplane.estimators import gaussian_mi
from infoplane.estimators.mutual_information.gaussian import gaussian_mi_of_moments
from infoplane.estimators.state import Moments


def joint_of(x: Tensor, y: Tensor, *, shards: int = 1) -> list[Moments]:
    """Return the joint moments of every item, merged from shards of unequal size."""
    rows = torch.cat([x, y], -1).numpy()
    cuts = [round(rows.shape[1] * (i / shards) ** 2) for i in range(shards + 1)]
    return [
        reduce(
            Moments.merge,
            [Moments.of_rows(item[a:b]) for a, b in pairwise(cuts)],
            Moments.zero(rows.shape[2]),
        )
        for item in rows
    ]


@pytest.mark.parametrize("nats", [1.0, 4.0])
@pytest.mark.parametrize("d", [1, 4, 16, 64])
def test_evenly_spread_pairs(data: SimpleNamespace, d: int, nats: float) -> None:
    x, y = data.gaussian_pairs(6, 1024, d, seed=d, nats=nats, directions=d)
    estimates = gaussian_mi(data.rotated(x, 1), y, seeds=range(6), permutations=2)
    assert sum(e.value for e in estimates) / 6 == pytest.approx(nats, abs=0.15)
    assert all(abs(e.null_mean or 0.0) < 0.2 for e in estimates)


@pytest.mark.parametrize("nats", [1.0, 4.0])
@pytest.mark.parametrize("d", [1, 16, 64])
def test_evenly_spread_pairs_from_merged_moments(
    data: SimpleNamespace, d: int, nats: float
) -> None:
    x, y = data.gaussian_pairs(6, 1024, d, seed=d, nats=nats, directions=d)
    estimates = gaussian_mi_of_moments(joint_of(data.rotated(x, 1), y, shards=8), d)
    assert sum(e.value for e in estimates) / 6 == pytest.approx(nats, abs=0.15)


def test_moments_give_what_the_rows_give(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(3, 300, 6, seed=1, nats=1.0, directions=2)
    x = torch.cat([torch.full((3, 300, 1), 0.1, dtype=x.dtype), 1e3 * x + 1e3], -1)
    y = y[..., :4]
    by_rows = gaussian_mi(x, y, seeds=range(3), permutations=0)
    for shards in (1, 8):
        for row, moment in zip(
            by_rows, gaussian_mi_of_moments(joint_of(x, y, shards=shards), 7), strict=True
        ):
            assert moment.value == pytest.approx(row.value, abs=1e-9)
            assert moment.band == pytest.approx(row.band, abs=1e-9)
            assert (moment.ceiling, moment.parameters) == (row.ceiling, row.parameters)
            assert (moment.n, moment.saturated) == (row.n, row.saturated)


def test_analytic_null_is_that_of_independent_blocks(data: SimpleNamespace) -> None:
    x, y = data.independent(400, 64, 5, seed=3)
    found = gaussian_mi_of_moments(joint_of(x, y), 5)
    values = np.array([e.value for e in found])
    sd = found[0].null_sd
    assert found[0].null_mean == 0.0
    assert sd is not None
    assert values.mean() == pytest.approx(0.0, abs=4 * sd / math.sqrt(400))
    assert values.std(ddof=1) == pytest.approx(sd, rel=0.15)


def test_linear_maps_change_nothing(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(1, 300, 4, seed=1, nats=1.0, directions=2)
    maps = torch.randn(4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (a,), (b,) = gaussian_mi(x, y, seeds=[1]), gaussian_mi(x @ maps + 3.0, y, seeds=[1])
    assert a.value == pytest.approx(b.value, abs=1e-9)
    assert a.null_mean == pytest.approx(b.null_mean, abs=1e-9)
    assert a == gaussian_mi(x, y, seeds=[1])[0]


def test_constant_columns_are_left_out(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(1, 300, 4, seed=1, nats=1.0, directions=2)
    wider = torch.cat([x, torch.ones(1, 300, 2, dtype=x.dtype)], -1)
    (a,), (b,) = gaussian_mi(x, y, seeds=[1]), gaussian_mi(wider, y, seeds=[1])
    assert a.value == pytest.approx(b.value, abs=1e-9)


def test_degenerate_items(data: SimpleNamespace) -> None:
    x, y = data.independent(5, 100, 4, seed=1)
    x[0, 3, 1], x[1], y[3], x[4, :, 0] = float("nan"), 1.0, x[3], x[4, :, 1]
    reasons = [e.undefined for e in gaussian_mi(x, y, seeds=range(5))]
    assert reasons == ["nan", "constant", "", "singular", "singular"]
    assert gaussian_mi(x[:, :9], y[:, :9], seeds=range(5))[2].undefined == "n"
    assert gaussian_mi(x[:, :0], y[:, :0], seeds=range(5))[2].undefined == "n"


def test_degenerate_moments(data: SimpleNamespace) -> None:
    x, y = data.independent(5, 100, 4, seed=1)
    x[0, 3, 1], x[1], y[3], x[4, :, 0] = float("nan"), 1.0, x[3], x[4, :, 1]
    joint = joint_of(x, y)
    assert [e.undefined for e in gaussian_mi_of_moments(joint, 4)] == [
        *("nan", "constant", "", "singular", "singular")
    ]
    assert gaussian_mi_of_moments([], 4) == []
    assert gaussian_mi_of_moments(joint[2:3], 0)[0].undefined == "constant"
    assert gaussian_mi_of_moments(joint_of(x[:, :9], y[:, :9]), 4)[2].undefined == "n"
    assert gaussian_mi_of_moments([Moments.zero(8)], 4)[0].undefined == "n"
    with pytest.raises(ValueError, match="width_x: expected 0 to the joint width 8, got 9"):
        gaussian_mi_of_moments(joint, 9)
