"""Gaussian information with its exact correction."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from infoplane.estimators import gaussian_mi


@pytest.mark.parametrize("nats", [1.0, 4.0])
@pytest.mark.parametrize("d", [1, 4, 16, 64])
def test_evenly_spread_pairs(data: SimpleNamespace, d: int, nats: float) -> None:
    x, y = data.gaussian_pairs(6, 1024, d, seed=d, nats=nats, directions=d)
    estimates = gaussian_mi(data.rotated(x, 1), y, seeds=range(6), permutations=2)
    assert sum(e.value for e in estimates) / 6 == pytest.approx(nats, abs=0.15)
    assert all(abs(e.null_mean or 0.0) < 0.2 for e in estimates)


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
