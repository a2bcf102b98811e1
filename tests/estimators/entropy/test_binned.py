from __future__ import annotations

import math

import pytest
import torch

from infoplane.estimators.entropy.binned import binned_entropy, binned_mi, joint_binned_entropy


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_values_that_never_repeat_fill_all_bins():
    (one,) = binned_entropy(normal(1, 900, 1))
    assert one.value == pytest.approx(math.log2(30), abs=1e-12)
    assert one.ceiling == pytest.approx(4.906891, abs=1e-6)
    assert not one.saturated


def test_monotone_maps_change_nothing():
    x, labels = normal(2, 400, 3), torch.arange(400).expand(2, -1) % 5
    mapped = torch.exp(3 * x) + 7
    assert [e.value for e in binned_entropy(x)] == [e.value for e in binned_entropy(mapped)]
    found = [binned_mi(z, labels, seeds=[0, 1]) for z in (x, mapped)]
    assert [e.value for e in found[0]] == [e.value for e in found[1]]


def test_joint_bins_are_at_their_ceiling_from_few_columns_on():
    found = [joint_binned_entropy(normal(1, 1024, d, seed=1))[0] for d in (1, 2, 3, 4)]
    expected = [4.907, 9.099, 9.971, 10.0]
    assert [one.value for one in found] == pytest.approx(expected, abs=0.03)
    assert [one.saturated for one in found] == [False, True, True, True]


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


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(t, n, d\)"):
        binned_entropy(torch.ones(3, 4))
    with pytest.raises(ValueError, match="labels"):
        binned_mi(torch.ones(1, 3, 4), torch.ones(1, 4), seeds=[0])
