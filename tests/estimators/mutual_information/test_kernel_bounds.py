from __future__ import annotations

import math

import pytest
import torch

from infoplane.estimators.mutual_information import kernel_bounds as module
from infoplane.estimators.mutual_information.kernel_bounds import choose_noise, kde_bounds


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("d", "s", "low", "high"), [(2, 1.0, 0.431, 1.207), (8, 8.0, 0.245, 0.919)]
)
def test_truth_of_a_normal_is_between(d: int, s: float, low: float, high: float):
    (one,) = kde_bounds(normal(1, 1000, d, seed=1), variances=[s], seeds=[0])
    truth = 0.5 * d * math.log1p(1 / s)
    assert one.lower.value < truth < one.upper.value
    assert one.lower.value == pytest.approx(low, abs=0.05)
    assert one.upper.value == pytest.approx(high, abs=0.05)


@pytest.mark.parametrize("d", [1, 2, 4, 8])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.48])
def test_truth_is_between_as_long_as_rows_can_show_it(d: int, share: float):
    n = 1024
    truth = share * math.log(n)
    s = 1 / math.expm1(2 * truth / d)
    found = kde_bounds(normal(3, n, d, seed=2), variances=[s] * 3, seeds=range(3))
    for one in found:
        assert one.lower.value < truth < one.upper.value


def test_rows_far_apart_reach_the_ceiling():
    (one,) = kde_bounds(1e4 * normal(1, 300, 16), variances=[1.0], seeds=[0])
    assert one.lower.value == pytest.approx(math.log(300), abs=1e-9)
    assert one.upper.value == pytest.approx(math.log(300), abs=1e-9)
    assert one.lower.saturated
    assert one.upper.saturated


def test_equal_groups_far_apart_have_their_number():
    x = (1e3 * torch.eye(4, dtype=torch.float64)).repeat(25, 1).unsqueeze(0)
    (one,) = kde_bounds(x, variances=[1.0], seeds=[0])
    assert one.upper.value == pytest.approx(math.log(4), abs=1e-9)
    assert one.lower.value == pytest.approx(math.log(4), abs=1e-9)


def test_noise_is_chosen_between_all_alike_and_all_apart():
    x = torch.stack([normal(1000, 32, seed=3), 100 * normal(1000, 32, seed=4)])
    for one in kde_bounds(x, variances=None, seeds=[0, 1]):
        assert 0.3 < one.upper.value / math.log(1000) < 0.6
    found = choose_noise(x)
    assert float(found[1] / found[0]) == pytest.approx(1e4, rel=0.2)


def test_blocks_and_batches_change_nothing(monkeypatch: pytest.MonkeyPatch):
    x = normal(3, 257, 5)
    whole = kde_bounds(x, variances=[0.1, 1.0, 3.0], seeds=range(3))
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 3 * 257 * 10)
    cut = kde_bounds(x, variances=[0.1, 1.0, 3.0], seeds=range(3))
    (alone,) = kde_bounds(x[1:2], variances=[1.0], seeds=[1])
    for a, b in zip(whole, cut, strict=True):
        assert a.upper.value == pytest.approx(b.upper.value, abs=1e-12)
    assert alone.lower.value == pytest.approx(whole[1].lower.value, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "variance", "reason"),
    [
        (torch.ones(1, 50, 3), 1.0, "constant"),
        (torch.full((1, 50, 3), torch.nan), 1.0, "nan"),
        (torch.randn(1, 1, 3), 1.0, "n"),
        (torch.randn(1, 50, 0), 1.0, "n"),
        (torch.randn(1, 50, 3), 0.0, "bandwidth"),
        (torch.randn(1, 50, 3), math.nan, "bandwidth"),
    ],
)
def test_rows_without_bounds_say_why(x: torch.Tensor, variance: float, reason: str):
    (one,) = kde_bounds(x, variances=[variance], seeds=[0])
    assert {one.upper.undefined, one.lower.undefined} == {reason}
    assert kde_bounds(x, variances=None, seeds=[0])[0].upper.undefined in (reason, "")


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="variances"):
        kde_bounds(torch.ones(2, 3, 4), variances=[1.0], seeds=[0, 1])
