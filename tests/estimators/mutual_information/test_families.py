"""The default estimator over families of known information, and on independent data."""

from __future__ import annotations

import importlib.util
import statistics
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from infoplane.estimators import Estimate, gaussian_mi, heldout_ksg

SEEDS = 5


def load_families() -> SimpleNamespace:
    """Return the generators' module, which lies one folder up."""
    place = Path(__file__).parents[1] / "families.py"
    spec = importlib.util.spec_from_file_location("families", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return SimpleNamespace(**vars(module))


FAMILIES = load_families()


def drawn(name: str, make: object, n: int = 1024) -> tuple[torch.Tensor, torch.Tensor]:
    """Return one item per seed."""
    assert callable(make)
    pairs = [make(n, np.random.default_rng([seed, len(name)])) for seed in range(SEEDS)]
    x, y = (torch.from_numpy(np.stack([pair[i] for pair in pairs])) for i in (0, 1))
    return x, y


def mean(estimates: list[Estimate]) -> float:
    """Return the mean value."""
    return statistics.fmean(e.value for e in estimates)


def test_mean_error_over_the_families() -> None:
    errors = {}
    for name, (truth, make) in FAMILIES.families().items():
        x, y = drawn(name, make)
        errors[name] = mean(heldout_ksg(x, y, seeds=range(SEEDS), permutations=0)) - truth
    assert len(errors) == 40
    worst = sorted(errors.items(), key=lambda item: -abs(item[1]))[:5]
    assert statistics.fmean(map(abs, errors.values())) <= 0.10, worst


@pytest.mark.parametrize("d", [1, 2, 5, 10, 25, 50, 100])
def test_independent_data_share_nothing(data: SimpleNamespace, d: int) -> None:
    x, y = data.independent(SEEDS, 1024, d, seed=2000 + d)
    assert abs(mean(heldout_ksg(x, y, seeds=range(SEEDS), permutations=0))) <= 0.05


@pytest.mark.parametrize("nats", [1.0, 4.0])
@pytest.mark.parametrize("d", [2, 32, 64])
def test_gaussian_information_of_dense_pairs(data: SimpleNamespace, d: int, nats: float) -> None:
    """A2, after rotations that leave no column of x facing one of y."""
    x, y = data.gaussian_pairs(5, 1024, d, seed=100 + d, nats=nats, directions=d)
    x, y = data.rotated(x, 1), data.rotated(y, 2)
    assert mean(gaussian_mi(x, y, seeds=range(5), permutations=0)) == pytest.approx(nats, abs=0.15)


@pytest.mark.parametrize("d", [1, 5, 25])
def test_permutation_p_is_uniform_on_independent_data(data: SimpleNamespace, d: int) -> None:
    """A4: the rank of a value among nine of its null takes each of ten places equally often."""
    items, draws = (60, 9)
    x, y = data.independent(items, 128, d, seed=3000 + d)
    orders = torch.stack(
        [
            torch.randperm(128, generator=torch.Generator().manual_seed(7 * i + j))
            for i in range(items)
            for j in range(draws)
        ]
    ).reshape(items, draws, 128)
    value = [e.value for e in heldout_ksg(x, y, seeds=range(items), permutations=0)]
    above = np.zeros(items, dtype=int)
    for j in range(draws):
        mixed = y.gather(1, orders[:, j].unsqueeze(-1).expand_as(y))
        null = [e.value for e in heldout_ksg(x, mixed, seeds=range(items), permutations=0)]
        above += np.array(null) >= np.array(value)
    share = (above + 0.5) / (draws + 1)
    # Mean and spread of a uniform variable on ten places, within 4 standard errors.
    assert share.mean() == pytest.approx(0.5, abs=4 * 0.287 / np.sqrt(items))
    assert share.std() == pytest.approx(0.287, abs=4 * 0.13 / np.sqrt(items))
    assert (share < 0.1).mean() <= 0.1 + 4 * np.sqrt(0.09 / items)
