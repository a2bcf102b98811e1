"""Conditional Cauchy-Schwarz divergence."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from infoplane.estimators.mutual_information import blocks
from infoplane.estimators.mutual_information.conditional_cauchy_schwarz import (
    conditional_cs_divergence,
)


@pytest.mark.parametrize(("shift", "sigma"), [(0.5, 1.0), (1.0, 1.0), (1.0, 2.0), (3.0, 1.5)])
def test_isolated_inputs_give_the_squared_shift(
    data: SimpleNamespace, shift: float, sigma: float
) -> None:
    x = 1000.0 * torch.arange(64, dtype=torch.float64).view(1, 64, 1)
    y, direction = data.independent(1, 64, 3, seed=1)
    moved = y + shift * direction / direction.norm(dim=-1, keepdim=True)
    (found,) = conditional_cs_divergence(x, y, moved, bandwidths=[(1.0, sigma)], seeds=[0])
    assert found.value == pytest.approx(shift**2 / sigma**2, abs=1e-10)
    assert found.unit == "nats"


def test_equals_a_readable_reference(data: SimpleNamespace) -> None:
    x, y1 = data.independent(1, 50, 2, seed=2)
    y2 = x @ torch.ones(2, 2, dtype=torch.float64)
    kernel = torch.exp(-torch.cdist(x[0], x[0]).square() / (2 * 0.8**2))

    def part(a: torch.Tensor, b: torch.Tensor) -> float:
        gram = torch.exp(-torch.cdist(a[0], b[0]).square() / (2 * 1.2**2))
        total = 0.0
        for j in range(50):
            total += float((kernel[j] * gram[j]).sum() / kernel[j].sum() ** 2)
        return math.log(total)

    expected = part(y1, y1) + part(y2, y2) - 2 * part(y2, y1)
    (found,) = conditional_cs_divergence(x, y1, y2, bandwidths=[(0.8, 1.2)], seeds=[0])
    assert found.value == pytest.approx(expected, abs=1e-9)


def test_orders_predictions_by_quality(data: SimpleNamespace) -> None:
    x, noise = data.independent(3, 400, 4, seed=3)
    _, other = data.independent(3, 400, 4, seed=4)
    target = x[..., :1] + 0.3 * noise[..., :1]
    means = []
    for slope in (1.0, 0.0, -1.0):
        prediction = slope * x[..., :1] + 0.3 * other[..., :1]
        found = conditional_cs_divergence(
            x, target, prediction, bandwidths=[(1.5, 0.5)] * 3, seeds=range(3), permutations=8
        )
        means.append(np.mean([e.value for e in found]))
        above = [(e.value - (e.null_mean or 0)) / (e.null_sd or math.nan) for e in found]
        assert (np.abs(above) < 4).all() if slope == 1.0 else min(above) > 4
    assert means[0] < means[1] < means[2]
    same = conditional_cs_divergence(x, target, target, bandwidths=None, seeds=range(3))
    assert [e.value for e in same] == pytest.approx([0.0] * 3, abs=1e-12)


def test_band_covers_the_spread_over_samples(data: SimpleNamespace) -> None:
    x, noise = data.independent(40, 200, 2, seed=5)
    y1 = x[..., :1] + 0.5 * noise[..., :1]
    y2 = 0.6 * x[..., :1] + 0.5 * noise[..., 1:]
    found = conditional_cs_divergence(
        x, y1, y2, bandwidths=[(1.0, 0.7)] * 40, seeds=range(40), permutations=0
    )
    half = np.mean([e.band[1] - e.value for e in found if e.band])
    assert half / 1.96 == pytest.approx(np.std([e.value for e in found]), rel=0.4)


def test_batch_equals_items_and_blocks_change_nothing(
    data: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y1 = data.independent(2, 70, 3, seed=6)
    y2 = y1 + 0.5 * x
    whole = conditional_cs_divergence(x, y1, y2, bandwidths=None, seeds=[1, 2])
    alone = conditional_cs_divergence(x[1:], y1[1:], y2[1:], bandwidths=None, seeds=[2])
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", 4000)
    small = conditional_cs_divergence(x, y1, y2, bandwidths=None, seeds=[1, 2])
    for one, other in ((alone[0], whole[1]), (small[0], whole[0]), (small[1], whole[1])):
        assert one.value == pytest.approx(other.value, abs=1e-10)
        assert one.null_mean == pytest.approx(other.null_mean, abs=1e-10)
        assert one.band == pytest.approx(other.band, abs=1e-10)


def test_degenerate_input(data: SimpleNamespace) -> None:
    x, y1 = data.independent(4, 40, 2, seed=7)
    y2 = y1 + 1.0
    x[1, 0, 0], x[2] = math.nan, 1.0
    x[3, :38] = 0.0
    found = conditional_cs_divergence(x, y1, y2, bandwidths=None, seeds=range(4))
    assert [e.undefined for e in found] == ["", "nan", "constant", "duplicates"]
    far = conditional_cs_divergence(x[:1], y1[:1], y1[:1] + 1e4, bandwidths=[(1.0, 1.0)], seeds=[0])
    assert far[0].undefined == "bandwidth"
    few = conditional_cs_divergence(x[:, :9], y1[:, :9], y2[:, :9], bandwidths=None, seeds=range(4))
    assert {e.undefined for e in few} == {"n"}
    with pytest.raises(ValueError, match="y1, y2"):
        conditional_cs_divergence(x, y1, y2[..., :1], bandwidths=None, seeds=range(4))
    with pytest.raises(ValueError, match="bandwidths"):
        conditional_cs_divergence(x, y1, y2, bandwidths=[(1.0, 1.0)], seeds=range(4))
