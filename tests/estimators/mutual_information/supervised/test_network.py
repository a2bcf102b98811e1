"""The network is symmetric and ordered before any training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from infoplane.estimators.mutual_information.supervised.features import Features
from infoplane.estimators.mutual_information.supervised.network import (
    LEVELS,
    SetToInformation,
    Sizes,
    pinball,
    quantiles_at,
)


@pytest.fixture
def network() -> SetToInformation:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SetToInformation(Sizes(statistics=6)).to(torch.float64).eval()


def some(t: int, n: int) -> tuple[Features, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    parts = [(t, 6), (t, 32, 4), (t, n, 10)]
    drawn = [torch.randn(p, generator=generator, dtype=torch.float64) for p in parts]
    return Features(*drawn), torch.ones(t, n, dtype=torch.bool)


def test_quantiles_never_cross(network: SetToInformation) -> None:
    quantiles = network(*some(50, 20))
    assert quantiles.shape == (50, len(LEVELS))
    assert (quantiles.diff(dim=-1) > 0).all()


def test_rows_and_directions_are_sets_and_sides_may_be_swapped(network: SetToInformation) -> None:
    seen, there = some(3, 20)
    plain = network(seen, there)
    shuffled = replace(seen, rows=seen.rows.flip(1), directions=seen.directions.flip(1))
    swapped = replace(seen, rows=torch.cat(seen.rows.chunk(2, -1)[::-1], -1))
    assert torch.allclose(network(shuffled, there), plain, atol=1e-12)
    assert torch.allclose(network(swapped, there), plain, atol=1e-12)


def test_padding_changes_nothing(network: SetToInformation) -> None:
    seen, there = some(3, 20)
    longer = replace(seen, rows=torch.cat([seen.rows, 9.0 + seen.rows], 1))
    padded = torch.cat([there, ~there], 1)
    assert torch.allclose(network(longer, padded), network(seen, there), atol=1e-12)


def test_levels_between_the_grid_are_interpolated() -> None:
    grid = torch.tensor([LEVELS], dtype=torch.float64)
    for level in (0.025, 0.05, 0.33, 0.5, 0.9, 0.975):
        assert float(quantiles_at(grid, level)) == pytest.approx(level)


def test_the_loss_is_least_at_the_quantiles_of_the_truth() -> None:
    truth = torch.linspace(0.0, 1.0, 2001, dtype=torch.float64)
    exact = torch.tensor(LEVELS, dtype=torch.float64).expand(2001, -1)
    best = float(pinball(exact, truth))
    assert all(float(pinball(exact + shift, truth)) > best for shift in (-0.05, 0.05))
