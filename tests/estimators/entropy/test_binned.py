from __future__ import annotations

import math

import pytest
import torch

from infoplane.estimators.entropy import binned as module
from infoplane.estimators.entropy.binned import binned_entropy, binned_mi, joint_binned_entropy


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_values_that_never_repeat_fill_all_bins():
    (one,) = binned_entropy(normal(1, 900, 1))
    assert one.value == pytest.approx(math.log2(30), abs=1e-12)
    assert one.ceiling == pytest.approx(4.906891, abs=1e-6)
    assert not one.saturated


def test_a_monotone_map_changes_nothing():
    x, labels = normal(2, 400, 3), torch.arange(400).expand(2, -1) % 5
    for mapped in (torch.exp(3 * x) + 7, x**3, torch.sigmoid(x) * torch.tensor([1.0, 9.0, 0.1])):
        assert binned_entropy(x) == binned_entropy(mapped)
        assert binned_mi(x, labels, seeds=[0, 1]) == binned_mi(mapped, labels, seeds=[0, 1])
        assert joint_binned_entropy(x) == joint_binned_entropy(mapped)


def test_a_falling_map_leaves_the_information():
    """900 rows in 30 bins: cuts are at the same places from either side."""
    x, labels = normal(1, 900, 2), torch.arange(900).unsqueeze(0) % 4
    found = [binned_mi(sign * x, labels, seeds=[0])[0].value for sign in (1.0, -1.0)]
    assert found[0] == pytest.approx(found[1], abs=1e-12)


def test_joint_bins_are_at_their_ceiling_from_few_columns_on():
    found = [joint_binned_entropy(normal(1, 1024, d, seed=1))[0] for d in (1, 2, 3, 4)]
    expected = [4.907, 9.099, 9.971, 10.0]
    assert [one.value for one in found] == pytest.approx(expected, abs=0.03)
    assert [one.saturated for one in found] == [False, True, True, True]


def test_joint_bins_count_equal_tuples():
    """More columns than one code can hold, two of each row."""
    x = normal(2, 300, 40, seed=2).repeat(1, 2, 1)
    for one in joint_binned_entropy(x, bins=10):
        assert one.value == pytest.approx(math.log2(300), abs=1e-12)
    x = torch.randint(0, 3, (2, 500, 4), generator=torch.Generator().manual_seed(3)).double()
    for one, rows in zip(joint_binned_entropy(x, bins=3), x, strict=True):
        p = torch.unique(rows, dim=0, return_counts=True)[1].double() / 500
        assert one.value == pytest.approx(float(-(p * p.log2()).sum()), abs=1e-12)


def test_the_lower_bound_is_a_bin_of_its_own():
    """Half the values are 0: one bit for that, and half of log2 30."""
    x = normal(1, 1800, 1).abs()
    x[:, ::2] = 0
    (one,) = binned_entropy(x, lower=0.0)
    assert one.value == pytest.approx(1 + math.log2(30) / 2, abs=1e-9)
    assert one.ceiling == pytest.approx(math.log2(31))


def test_cuts_are_at_counts_of_distinct_values():
    """Three values in three bins, however often each comes."""
    x = torch.tensor([0.0] * 70 + [1.0] * 20 + [2.0] * 10, dtype=torch.float64).view(1, 100, 1)
    (one,) = binned_entropy(x, bins=3)
    expected = -sum(p * math.log2(p) for p in (0.7, 0.2, 0.1))
    assert one.value == pytest.approx(expected, abs=1e-12)


def test_what_lies_at_or_below_the_bound_is_in_the_lowest_bin():
    x = torch.tensor([-1.0, -1.5, -1.0, 0.1, 0.2, 0.3]).view(1, 6, 1)
    (one,) = binned_entropy(x, bins=3, lower=-1.0)
    assert one.value == pytest.approx(0.5 + 0.5 * math.log2(6), abs=1e-12)
    (none,) = binned_entropy(torch.cat([x, 0 * x - 1.0], -1), bins=3, lower=-1.0)
    assert none.value == pytest.approx(one.value / 2, abs=1e-12)


def test_information_of_two_shifted_normals():
    """N(-1, 1) and N(1, 1): 0.4860 bits; 30 bins keep nearly all of it."""
    labels = torch.arange(3000).expand(8, -1) % 2
    x = normal(8, 3000, 1, seed=6) + (2.0 * labels - 1.0).unsqueeze(-1)
    grid = torch.linspace(-9, 9, 9001, dtype=torch.float64)
    density = torch.exp(-0.5 * (grid - 1) ** 2) / math.sqrt(2 * math.pi)
    ratio = torch.log2(2 / (1 + torch.exp(-2 * grid)))
    truth = float((density * ratio).sum() * (grid[1] - grid[0]))
    found = binned_mi(x, labels, seeds=range(8))
    assert truth == pytest.approx(0.486, abs=1e-3)
    assert sum(one.value for one in found) / 8 == pytest.approx(truth, abs=0.015)
    assert sum(one.band[0] < truth < one.band[1] for one in found) >= 6


def test_the_ceiling_is_that_of_bins_or_of_labels():
    x, labels = normal(1, 600, 2), torch.arange(600).unsqueeze(0)
    assert binned_mi(x, labels % 4, seeds=[0])[0].ceiling == pytest.approx(2.0, abs=1e-9)
    (many,) = binned_mi(x, labels % 100, seeds=[0], bins=8, lower=-9.0)
    assert many.ceiling == pytest.approx(math.log2(9))


def test_a_column_that_is_the_label_says_all_and_another_nothing():
    labels = torch.randint(0, 6, (1, 3000), generator=torch.Generator().manual_seed(2))
    told = labels.double().unsqueeze(-1)
    (one,) = binned_mi(told, labels, seeds=[0], bins=6)
    assert one.value == pytest.approx(one.ceiling, abs=2e-3)
    assert one.saturated
    (none,) = binned_mi(normal(1, 3000, 4), labels, seeds=[0])
    assert none.value == pytest.approx(0.0, abs=0.01)
    assert none.null_mean == pytest.approx(0.0, abs=0.01)
    assert none.parameters["raw"] > 0.02


def test_miller_madow_takes_the_bias_off():
    labels = torch.randint(0, 10, (8, 4096), generator=torch.Generator().manual_seed(3))
    found = binned_mi(normal(8, 4096, 4, seed=4), labels, seeds=range(8), permutations=0)
    assert sum(one.value for one in found) / 8 == pytest.approx(0.0, abs=0.003)
    assert sum(one.parameters["raw"] for one in found) / 8 > 0.04
    assert found[0].null_mean is None


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    x = normal(3, 120, 5)
    labels = torch.randint(0, 4, (3, 120), generator=torch.Generator().manual_seed(5))
    whole = binned_entropy(x), binned_mi(x, labels, seeds=[7, 8, 9])
    monkeypatch.setattr(module, "TABLE_ELEMENTS", 7 * 31 * 4)
    assert (binned_entropy(x), binned_mi(x, labels, seeds=[7, 8, 9])) == whole


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64])
def test_any_kind_of_number_will_do(dtype: torch.dtype):
    """bfloat16 rounds values together, so that bins are unequal."""
    x = (50 * normal(1, 600, 2)).to(dtype)
    (one,) = binned_entropy(x)
    assert one.value == binned_entropy(x.double())[0].value
    assert 4.0 < one.value < math.log2(30) + 1e-12


def test_a_batch_gives_what_its_items_give():
    x = normal(3, 200, 5)
    labels = torch.randint(0, 4, (3, 200), generator=torch.Generator().manual_seed(5))
    together = binned_mi(x, labels, seeds=[7, 8, 9])
    for i in range(3):
        assert binned_entropy(x[i : i + 1])[0].value == binned_entropy(x)[i].value
        (alone,) = binned_mi(x[i : i + 1], labels[i : i + 1], seeds=[7 + i])
        assert alone.value == pytest.approx(together[i].value, abs=1e-12)
        assert alone.null_mean == pytest.approx(together[i].null_mean, abs=1e-12)


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (torch.ones(1, 100, 3), "constant"),
        (torch.full((1, 100, 3), torch.inf), "nan"),
        (torch.randn(1, 29, 3), "n"),
        (torch.randn(1, 100, 0), "d"),
        (torch.randn(1, 0, 3), "n"),
    ],
)
def test_rows_without_a_value_say_why(x: torch.Tensor, reason: str):
    labels = torch.arange(x.shape[1]).unsqueeze(0) % 2
    found = [
        *binned_entropy(x), *joint_binned_entropy(x), *binned_mi(x, labels, seeds=[0]),
    ]  # fmt: skip
    assert {one.undefined for one in found} == {reason}


def test_one_class_and_no_items():
    labels = torch.zeros(1, 100, dtype=torch.int64)
    assert binned_mi(normal(1, 100, 2), labels, seeds=[0])[0].undefined == "classes"
    assert binned_entropy(normal(0, 100, 2)) == []
    assert joint_binned_entropy(normal(0, 100, 2)) == []
    assert binned_mi(normal(0, 100, 2), labels[:0], seeds=[]) == []


def test_items_without_a_value_leave_the_others_alone():
    x = torch.stack([torch.ones(90, 2), torch.full((90, 2), torch.nan), torch.randn(90, 2)])
    labels = torch.arange(90).expand(3, -1) % 3
    for found in (
        binned_entropy(x),
        joint_binned_entropy(x),
        binned_mi(x, labels, seeds=[0, 1, 2]),
    ):
        assert [one.undefined for one in found] == ["constant", "nan", ""]
        assert math.isfinite(found[2].value)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(t, n, d\)"):
        binned_entropy(torch.ones(3, 4))
    with pytest.raises(ValueError, match="labels"):
        binned_mi(torch.ones(1, 3, 4), torch.ones(1, 4), seeds=[0])
    with pytest.raises(ValueError, match="bins"):
        joint_binned_entropy(torch.ones(1, 3, 4), bins=0)
