from __future__ import annotations

import math

import pytest
import torch

from infoplane.estimators.mutual_information import noise as module
from infoplane.estimators.mutual_information.noise import conditional_noise_mi, noise_mi


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("d", "s", "measured"), [(2, 1.0, 0.64), (4, 1.0, 1.43), (8, 8.0, 0.595), (32, 1.0, 6.74)]
)
def test_values_of_a_normal(d: int, s: float, measured: float):
    found = noise_mi(normal(4, 1000, d, seed=1), variances=[s] * 4, seeds=range(4))
    mean = sum(one.value for one in found) / 4
    assert mean == pytest.approx(measured, abs=0.12)


def test_few_dimensions_come_near_the_truth():
    (one,) = noise_mi(normal(1, 2000, 1, seed=2), variances=[1.0], seeds=[0], draws=8)
    assert one.value == pytest.approx(0.5 * math.log(2), abs=0.04)


def test_points_far_apart_have_the_log_of_their_number():
    x = (1e4 * torch.eye(5, dtype=torch.float64)).repeat(20, 1).unsqueeze(0)
    (one,) = noise_mi(x, variances=[1.0], seeds=[0])
    assert one.value == pytest.approx(math.log(5), abs=1e-6)


def test_it_falls_with_the_noise_and_ends_at_0():
    x = normal(1, 300, 6, seed=3)
    values = [noise_mi(x, variances=[s], seeds=[5])[0].value for s in (0.01, 0.1, 1, 10, 1e6)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(0.0, abs=1e-2)


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
    assert one.saturated


def test_blocks_and_batches_change_nothing(monkeypatch: pytest.MonkeyPatch):
    x, labels = normal(3, 101, 4), torch.arange(101).expand(3, -1) % 3
    whole = conditional_noise_mi(x, labels, variances=[0.5] * 3, seeds=[6, 7, 8])
    monkeypatch.setattr(module, "BLOCK_ELEMENTS", 3 * 101 * 7)
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


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="labels"):
        conditional_noise_mi(torch.ones(1, 3, 2), torch.ones(1, 4), variances=None, seeds=[0])
    with pytest.raises(ValueError, match="draws"):
        noise_mi(torch.ones(1, 3, 2), variances=None, seeds=[0], draws=0)
