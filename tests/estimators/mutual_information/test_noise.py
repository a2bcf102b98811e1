from __future__ import annotations

import math

import pytest
import torch

from infoplane.estimators.mutual_information import blocks, class_groups
from infoplane.estimators.mutual_information.kernel_bounds import kde_bounds
from infoplane.estimators.mutual_information.noise import conditional_noise_mi, noise_mi


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("d", "s", "within"),
    [(1, 1.0, 0.02), (2, 1.0, 0.03), (4, 1.0, 0.05), (8, 8.0, 0.02), (64, 20.0, 0.04)],
)
def test_information_of_a_normal_is_the_channel_capacity(d: int, s: float, within: float):
    found = noise_mi(normal(8, 1000, d, seed=11), variances=[s] * 8, seeds=range(8))
    truth = 0.5 * d * math.log1p(1.0 / s)
    assert sum(one.value for one in found) / 8 == pytest.approx(truth, abs=within)
    assert sum(one.band[0] < truth < one.band[1] for one in found) >= 6


def test_the_ceiling_holds_what_rows_cannot_show():
    """Truth 11.09, of which 1000 rows show ln 1000 at most: 6.7, as others measured (6.74)."""
    (one,) = noise_mi(normal(1, 1000, 32, seed=1), variances=[1.0], seeds=[0])
    assert one.value == pytest.approx(6.74, abs=0.08)
    assert one.ceiling == pytest.approx(math.log(1000))
    assert one.saturated


def test_draws_of_both_signs_take_off_what_is_linear_in_the_noise():
    x = normal(1, 400, 8, seed=2)
    spreads = []
    for draws in (1, 2):
        values = torch.tensor(
            [noise_mi(x, variances=[50.0], seeds=[i], draws=draws)[0].value for i in range(20)]
        )
        spreads.append(float(values.std()))
    assert spreads[1] < 0.5 * spreads[0]


def test_points_far_apart_have_the_log_of_their_number():
    x = (1e4 * torch.eye(5, dtype=torch.float64)).repeat(20, 1).unsqueeze(0)
    (one,) = noise_mi(x, variances=[1.0], seeds=[0])
    assert one.value == pytest.approx(math.log(5), abs=1e-6)


def test_it_lies_between_the_bounds_of_the_same_mixture():
    x = normal(1, 400, 6, seed=8)
    for s in (0.03, 0.3, 3.0):
        (bounds,) = kde_bounds(x, variances=[s], seeds=[0])
        (one,) = noise_mi(x, variances=[s], seeds=[0])
        assert bounds.lower.value < one.value < bounds.upper.value


def test_rows_of_many_columns_lose_no_exponent():
    """exp(-|e|^2 / 2) underflows at 4000 columns; relative to the own term nothing does."""
    x = normal(1, 64, 4000, seed=9)
    (near,) = noise_mi(1e-3 * x, variances=[1.0], seeds=[0])
    assert near.value == pytest.approx(0.5 * 4000 * 1e-6, abs=0.01)
    (far,) = noise_mi(x, variances=[1.0], seeds=[0])
    assert far.value == pytest.approx(math.log(64), abs=1e-9)


def test_noise_does_not_repeat_rows_drawn_with_its_seed():
    """Noise equal to the rows would make them look far apart."""
    x = normal(1, 256, 64, seed=0)
    (one,) = noise_mi(x, variances=[24.0], seeds=[0])
    (other,) = noise_mi(x, variances=[24.0], seeds=[1])
    assert one.value == pytest.approx(other.value, abs=0.2)
    assert one.value < 2.0


def test_it_falls_with_the_noise_and_ends_at_0():
    x = normal(1, 300, 6, seed=3)
    steps = [10.0 ** (0.5 * i) for i in range(-4, 9)] + [1e8]
    values = [noise_mi(x, variances=[s], seeds=[5])[0].value for s in steps]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(0.0, abs=2e-3)


def test_within_classes_only_what_the_label_leaves_open():
    """Four far clusters: the label explains ln 4 of the information, and the rest is that of one cluster."""
    labels = torch.arange(800).unsqueeze(0) % 4
    x = normal(1, 800, 2, seed=4) + 1e3 * labels.unsqueeze(-1)
    (inside,) = conditional_noise_mi(x, labels, variances=[1.0], seeds=[0], permutations=2)
    (whole,) = noise_mi(x, variances=[1.0], seeds=[0])
    assert whole.value - inside.value == pytest.approx(math.log(4), abs=1e-6)
    assert inside.ceiling == pytest.approx(math.log(200))
    assert inside.null_mean == pytest.approx(whole.value, abs=0.1)
    assert inside.null_sd is not None


def test_classes_of_one_row_add_nothing():
    labels = torch.arange(100).unsqueeze(0).clamp(max=50)
    x = normal(1, 100, 3, seed=5)
    (one,) = conditional_noise_mi(x, labels, variances=[1e-6], seeds=[0])
    assert one.value == pytest.approx(0.5 * math.log(50), abs=1e-6)
    assert one.parameters["alone"] == pytest.approx(0.5)
    assert one.saturated


def test_blocks_and_batches_change_nothing(monkeypatch: pytest.MonkeyPatch):
    x, labels = normal(3, 101, 4), torch.arange(101).expand(3, -1) % 3
    whole = conditional_noise_mi(x, labels, variances=[0.5] * 3, seeds=[6, 7, 8])
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", 34 * 7)
    monkeypatch.setattr(blocks, "FEWEST_ROWS", 5)
    monkeypatch.setitem(class_groups.ITEM_ELEMENTS, "cpu", 2 * 101 * 4)
    cut = conditional_noise_mi(x, labels, variances=[0.5] * 3, seeds=[6, 7, 8])
    (alone,) = conditional_noise_mi(x[2:], labels[2:], variances=[0.5], seeds=[8])
    for a, b in zip(whole, cut, strict=True):
        assert a.value == pytest.approx(b.value, abs=1e-12)
    assert alone.value == pytest.approx(whole[2].value, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "variance", "reason"),
    [
        (torch.ones(1, 50, 3), 1.0, "constant"),
        (torch.full((1, 50, 3), torch.nan), 1.0, "nan"),
        (torch.randn(1, 1, 3), 1.0, "n"),
        (torch.randn(1, 50, 3), -1.0, "bandwidth"),
        (torch.randn(1, 50, 3, dtype=torch.float64) * 1e200, 1.0, "bandwidth"),
        (torch.randn(1, 50, 0), 1.0, "n"),
    ],
)
def test_rows_without_a_value_say_why(x: torch.Tensor, variance: float, reason: str):
    labels = torch.zeros(x.shape[:2], dtype=torch.int64)
    (one,) = conditional_noise_mi(x, labels, variances=[variance], seeds=[0])
    assert one.undefined == reason


def test_classes_without_a_second_row():
    labels = torch.arange(50).unsqueeze(0)
    (one,) = conditional_noise_mi(normal(1, 50, 3), labels, variances=None, seeds=[0])
    assert one.undefined == "classes"
    assert noise_mi(normal(0, 50, 3), variances=None, seeds=[]) == []
    assert conditional_noise_mi(normal(0, 50, 3), labels[:0], variances=None, seeds=[]) == []


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="labels"):
        conditional_noise_mi(torch.ones(1, 3, 2), torch.ones(1, 4), variances=None, seeds=[0])
    with pytest.raises(ValueError, match="draws"):
        noise_mi(torch.ones(1, 3, 2), variances=None, seeds=[0], draws=0)
