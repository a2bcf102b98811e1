from __future__ import annotations

import math

import pytest
import torch

from infoplane.estimators.mutual_information import blocks, class_groups
from infoplane.estimators.mutual_information.kernel_bounds import (
    choose_noise,
    kde_bounds,
    kde_label_bounds,
)
from infoplane.estimators.mutual_information.noise import conditional_noise_mi, noise_mi


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


def rows_of(kind: str, n: int, d: int) -> torch.Tensor:
    rows = normal(n, d, seed=3)
    centres = normal(10, d, seed=4)[torch.arange(n) % 10]
    return {
        "normal": rows,
        "power law": rows / torch.arange(1, d + 1),
        "ReLU": rows.clamp(min=0.0),
        "heavy tails": rows / normal(n, 3, seed=5).square().mean(-1, keepdim=True).sqrt(),
        "clusters": centres + 0.05 * rows,
        "one far row": torch.cat([1e4 * rows[:1], rows[1:]]),
    }[kind]


@pytest.mark.parametrize("d", [4, 64])
@pytest.mark.parametrize(
    "kind", ["normal", "power law", "ReLU", "heavy tails", "clusters", "one far row"]
)
def test_the_chosen_noise_joins_some_rows_and_not_others(kind: str, d: int):
    x = rows_of(kind, 600, d).unsqueeze(0)
    labels = torch.arange(600).unsqueeze(0) % 4
    (bounds,) = kde_bounds(x, variances=None, seeds=[1])
    (noise,) = noise_mi(x, variances=None, seeds=[1])
    (inside,) = conditional_noise_mi(x, labels, variances=None, seeds=[1])
    for one in (bounds.upper, noise, inside):
        assert 0.2 < one.value / one.ceiling < 0.7
        assert not one.saturated
    assert bounds.lower.value < noise.value < bounds.upper.value


def test_the_chosen_noise_scales_with_the_rows():
    x = normal(1, 1000, 32, seed=3)
    found = choose_noise(torch.cat([x, 100 * x + 7, 0 * x, torch.full_like(x, 1e200)]))
    assert float(found[1] / found[0]) == pytest.approx(1e4, rel=1e-6)
    assert found[2:].tolist() == [0.0, 0.0]
    assert choose_noise(x[:0]).shape == (0,)


def test_a_mixture_of_few_values_keeps_them_apart():
    """Ten values have no more than ln 10, a third of ln n: less than what noise is chosen for."""
    x = normal(10, 8, seed=6)[torch.arange(1000) % 10].unsqueeze(0)
    (one,) = kde_bounds(x, variances=None, seeds=[0])
    assert one.upper.value == pytest.approx(0.9 * math.log(10), rel=0.02)


def test_labels_of_far_clusters_are_known_and_others_are_not():
    labels = torch.arange(900).unsqueeze(0) % 3
    x = normal(1, 900, 2, seed=7) + 1e3 * labels.unsqueeze(-1)
    (one,) = kde_label_bounds(x, labels, variances=[1.0], seeds=[0], permutations=3)
    (whole,) = kde_bounds(x, variances=[1.0], seeds=[0])
    assert one.upper.value == pytest.approx(math.log(3), abs=1e-9)
    assert one.upper.parameters["same_side"] == pytest.approx(math.log(3), abs=1e-9)
    assert one.lower.parameters["same_side"] == pytest.approx(math.log(3), abs=1e-9)
    # Within a cluster the bounds are as far apart as over all of them.
    assert one.lower.value == pytest.approx(
        max(0.0, math.log(3) - (whole.upper.value - whole.lower.value)), abs=1e-9
    )
    assert one.upper.ceiling == pytest.approx(math.log(3), abs=1e-12)
    assert one.upper.saturated
    for side in (one.upper, one.lower):
        assert side.null_mean is not None
        assert side.null_mean < side.value
        assert side.null_sd is not None


def test_the_information_of_two_overlapping_classes_is_between_its_bounds():
    """Classes N(-1, 1) and N(1, 1), in one dimension, with noise of variance 1."""
    labels = torch.arange(2000).unsqueeze(0) % 2
    x = normal(1, 2000, 1, seed=8) + (2.0 * labels - 1.0).unsqueeze(-1)
    grid = torch.linspace(-12, 12, 20001, dtype=torch.float64)
    densities = torch.exp(-0.25 * (grid - torch.tensor([[-1.0], [1.0]])) ** 2) / math.sqrt(
        4 * math.pi
    )
    mixture = densities.mean(0)
    ratio = torch.where(densities > 0, densities / mixture, 1.0).log()
    truth = float((0.5 * densities * ratio).sum() * (grid[1] - grid[0]))
    (one,) = kde_label_bounds(x, labels, variances=[1.0], seeds=[0], permutations=0)
    assert one.lower.value <= truth <= one.upper.value
    same = [float(side.parameters["same_side"]) for side in (one.lower, one.upper)]
    assert same == pytest.approx([truth, truth], abs=0.1)
    assert one.upper.null_mean is None


def test_label_bounds_stay_within_0_and_the_entropy_of_the_label():
    x, labels = normal(1, 300, 6, seed=9), torch.arange(300).unsqueeze(0) % 7
    for s in (1e-6, 0.1, 1.0, 1e6):
        (one,) = kde_label_bounds(x, labels, variances=[s], seeds=[0])
        assert 0.0 <= one.lower.value <= one.upper.value <= one.upper.ceiling
    tight = kde_label_bounds(x, labels, variances=[1e-6], seeds=[0])[0]
    assert tight.lower.value == pytest.approx(tight.lower.ceiling, abs=1e-9)
    assert tight.lower.null_mean == pytest.approx(tight.lower.ceiling, abs=1e-9)


def test_blocks_and_batches_change_nothing(monkeypatch: pytest.MonkeyPatch):
    x = normal(3, 257, 5)
    whole = kde_bounds(x, variances=[0.1, 1.0, 3.0], seeds=range(3))
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", 257 * 10)
    monkeypatch.setattr(blocks, "FEWEST_ROWS", 7)
    monkeypatch.setitem(class_groups.ITEM_ELEMENTS, "cpu", 2 * 257 * 5)
    cut = kde_bounds(x, variances=[0.1, 1.0, 3.0], seeds=range(3))
    (alone,) = kde_bounds(x[1:2], variances=[1.0], seeds=[1])
    for a, b in zip(whole, cut, strict=True):
        assert a.upper.value == pytest.approx(b.upper.value, abs=1e-12)
    assert alone.lower.value == pytest.approx(whole[1].lower.value, abs=1e-12)


def test_a_batch_of_labelled_rows_gives_what_its_items_give():
    x = normal(3, 150, 4)
    labels = (8 * torch.rand(3, 150, generator=torch.Generator().manual_seed(1)) ** 2).long()
    whole = kde_label_bounds(x, labels, variances=[0.1, 1.0, 3.0], seeds=[4, 5, 6])
    for i, s in enumerate((0.1, 1.0, 3.0)):
        part = slice(i, i + 1)
        (alone,) = kde_label_bounds(x[part], labels[part], variances=[s], seeds=[4 + i])
        for a, b in ((alone.upper, whole[i].upper), (alone.lower, whole[i].lower)):
            assert a.value == pytest.approx(b.value, abs=1e-12)
            assert a.null_mean == pytest.approx(b.null_mean, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "variance", "reason"),
    [
        (torch.ones(1, 50, 3), 1.0, "constant"),
        (torch.full((1, 50, 3), torch.nan), 1.0, "nan"),
        (torch.randn(1, 1, 3), 1.0, "n"),
        (torch.randn(1, 50, 0), 1.0, "n"),
        (torch.randn(1, 50, 3), 0.0, "bandwidth"),
        (torch.randn(1, 50, 3), math.nan, "bandwidth"),
        (torch.randn(1, 50, 3), 1e-13, "bandwidth"),
        (torch.randn(1, 50, 3, dtype=torch.float64) * 1e200, 1.0, "bandwidth"),
        (torch.randn(1, 0, 3), 1.0, "n"),
    ],
)
def test_rows_without_bounds_say_why(x: torch.Tensor, variance: float, reason: str):
    (one,) = kde_bounds(x, variances=[variance], seeds=[0])
    assert {one.upper.undefined, one.lower.undefined} == {reason}
    labels = torch.arange(x.shape[1]).unsqueeze(0) % 2
    (two,) = kde_label_bounds(x, labels, variances=[variance], seeds=[0])
    assert {two.upper.undefined, two.lower.undefined} == {reason}


def test_rows_without_a_suitable_noise_say_so():
    x = torch.stack([torch.full((50, 3), 2.0), torch.randn(50, 3), torch.full((50, 3), math.inf)])
    found = kde_bounds(x, variances=None, seeds=[0, 1, 2])
    assert [one.upper.undefined for one in found] == ["constant", "", "nan"]
    assert kde_bounds(x[:0], variances=None, seeds=[]) == []
    labels = torch.zeros(3, 50, dtype=torch.int64)
    said = kde_label_bounds(x, labels, variances=None, seeds=[0, 1, 2])
    assert [one.lower.undefined for one in said] == ["constant", "classes", "nan"]
    assert kde_label_bounds(x[:0], labels[:0], variances=None, seeds=[]) == []


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="variances"):
        kde_bounds(torch.ones(2, 3, 4), variances=[1.0], seeds=[0, 1])
    with pytest.raises(ValueError, match="labels"):
        kde_label_bounds(torch.ones(1, 3, 4), torch.ones(1, 4), variances=[1.0], seeds=[0])
