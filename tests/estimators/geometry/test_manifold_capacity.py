"""Manifold capacity: closed forms, random rows, choice of labels, sums of shards."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from infoplane.estimators import manifold_capacity
from infoplane.estimators.geometry.manifold_capacity import manifold_capacity_of_sums
from infoplane.estimators.state.class_sums import ClassSums


def classes(p: int, per: int, t: int = 1) -> torch.Tensor:
    """Return labels of ``p`` classes with ``per`` rows each, ``(t, p per)``."""
    return torch.arange(p).repeat_interleave(per).expand(t, -1).contiguous()


def normal(t: int, n: int, d: int, seed: int) -> torch.Tensor:
    """Return standard normal rows."""
    return torch.randn(t, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("p", "d", "nuclear", "bound"),
    [(256, 64, 124.1, 128.0), (64, 256, 62.0, 64.0), (1024, 128, 356.1, 362.04)],
)
def test_random_directions_come_near_the_bound(
    p: int, d: int, nuclear: float, bound: float
) -> None:
    (one,) = manifold_capacity(
        normal(1, p, d, 0), classes(p, 1), seeds=[0], per_label=1, spread_per_label=1, drawn=1
    )
    assert one.capacity.value * bound == pytest.approx(nuclear, rel=1e-3)
    # Marchenko and Pastur: 1 - ratio / 8 of the bound, to first order.
    ratio = min(p, d) / max(p, d)
    assert one.capacity.value == pytest.approx(1.0 - ratio / 8, abs=0.002)
    assert one.capacity.band is None
    assert one.spread.value == pytest.approx(1.0, abs=1e-9)


def test_orthogonal_labels_of_equal_rows_reach_the_bound() -> None:
    x = 3.0 * torch.eye(16, dtype=torch.float64).repeat_interleave(8, 0)[None]
    (one,) = manifold_capacity(x, classes(16, 8), seeds=[0])
    assert one.capacity.value == pytest.approx(1.0, abs=1e-12)
    assert one.spread.value == pytest.approx(1.0, abs=1e-6)
    assert one.capacity.null_mean < 0.8
    assert one.capacity.n == 128


@pytest.mark.parametrize(("p", "d"), [(16, 32), (64, 8)])
def test_collapse_leaves_the_root_of_the_number_of_labels(p: int, d: int) -> None:
    x = 1.0 + 1e-9 * normal(1, 8 * p, d, 1)
    (one,) = manifold_capacity(x, classes(p, 8), seeds=[0])
    assert one.capacity.value * math.sqrt(p * min(p, d)) == pytest.approx(math.sqrt(p), abs=1e-5)
    assert one.spread.value == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("d", [8, 4])
def test_spread_of_orthogonal_rows_is_at_its_ceiling(d: int) -> None:
    x = torch.eye(d, dtype=torch.float64).repeat(4 * (8 // d), 1)[None]
    (one,) = manifold_capacity(x, classes(4, 8), seeds=[0])
    assert one.spread.value == pytest.approx(math.sqrt(d))
    assert one.spread.ceiling == pytest.approx(math.sqrt(d))
    assert one.spread.unit == "1"


def test_manifolds_are_told_from_chance() -> None:
    x = normal(1, 8, 64, 2).repeat_interleave(20, 1) + 0.1 * normal(1, 160, 64, 3)
    (one,) = manifold_capacity(x, classes(8, 20), seeds=[4], permutations=5)
    assert one.capacity.value > 0.95
    assert one.capacity.null_mean < 0.75
    assert one.capacity.null_sd > 0
    assert one.spread.value < 0.7 * one.spread.null_mean
    (bare,) = manifold_capacity(x, classes(8, 20), seeds=[4], permutations=0)
    assert bare.capacity.null_mean is None
    assert bare.capacity.value == one.capacity.value


def test_random_labels_read_the_null() -> None:
    found = manifold_capacity(normal(12, 128, 32, 5), classes(16, 8, 12), seeds=range(12))
    for side in ("capacity", "spread"):
        ones = [getattr(one, side) for one in found]
        excess = [one.value - one.null_mean for one in ones]
        assert sum(excess) / 12 == pytest.approx(0.0, abs=0.005)


@pytest.mark.parametrize(
    ("sizes", "per_label", "drawn"),
    [
        ([8] * 16, 8, 8),
        ([8] * 16, 2, 128),
        ([32] * 16, 2, 128),
        ([200, 100, 50, 40, 30, 30, 20, 20, 16, 16, 10, 8, 5, 4, 3, 2], 2, 128),
    ],
)
def test_bands_are_the_spread_over_samples(sizes: list[int], per_label: int, drawn: int) -> None:
    labels = torch.arange(16).repeat_interleave(torch.tensor(sizes))
    draws = 80
    x = normal(1, 16, 32, 6)[:, labels] + 1.5 * normal(draws, len(labels), 32, 7)
    found = manifold_capacity(
        x,
        labels.expand(draws, -1),
        seeds=range(draws),
        per_label=per_label,
        drawn=drawn,
        permutations=0,
    )
    ones = [one.capacity for one in found]
    half = np.mean([one.band[1] - one.value for one in ones]) / 1.96
    assert half == pytest.approx(np.std([one.value for one in ones]), rel=0.3)


def test_band_of_the_spread_is_over_labels() -> None:
    draws = 80
    x = normal(1, 16, 32, 6).repeat_interleave(8, 1) + 1.5 * normal(draws, 128, 32, 7)
    found = manifold_capacity(x, classes(16, 8, draws), seeds=range(draws), permutations=0)
    ones = [one.spread for one in found]
    half = np.mean([one.band[1] - one.value for one in ones]) / 1.96
    assert half == pytest.approx(np.std([one.value for one in ones]), rel=0.4)


def test_draws_take_every_row_before_one_again() -> None:
    labels = torch.arange(4).repeat_interleave(torch.tensor([40, 20, 9, 8]))[None]
    x = normal(1, 77, 16, 11)
    for drawn, n in ((2, 8), (8, 32), (16, 16 + 16 + 8 + 8), (40, 77)):
        (one,) = manifold_capacity(x, labels, seeds=[0], drawn=drawn)
        assert one.capacity.n == n, drawn
        assert one.capacity.parameters["draws"] == drawn // 2


def test_draws_quieten_the_choice_of_rows() -> None:
    x = normal(1, 8, 32, 12).repeat_interleave(40, 1) + normal(1, 320, 32, 13)
    noise = {}
    for drawn in (8, 128):
        found = manifold_capacity(
            x.expand(20, -1, -1), classes(8, 40, 20), seeds=range(20), drawn=drawn, permutations=0
        )
        noise[drawn] = [
            np.std([getattr(one, side).value for one in found]) for side in ("capacity", "spread")
        ]
    assert noise[128][0] < noise[8][0] / 3
    assert noise[128][1] < noise[8][1] / 3


def test_two_rows_see_rows_agree_before_many_rows_do() -> None:
    """Rows of 16 labels in 64 columns; a common direction grows from 1/4 to 2/5 of their square."""
    labels = classes(16, 40, 8)
    x = 0.3 * normal(1, 16, 64, 14).repeat_interleave(40, 1) + normal(8, 640, 64, 15)
    common = torch.nn.functional.normalize(normal(1, 1, 64, 16), dim=-1)
    falls = {}
    for per_label in (2, 40):
        before, after = (
            manifold_capacity(rows, labels, seeds=range(8), per_label=per_label, permutations=0)
            for rows in (x + 4.8 * common, x + 6.8 * common)
        )
        change = [b.capacity.value - a.capacity.value for a, b in zip(before, after, strict=True)]
        falls[per_label] = np.mean(change) / np.std(change)
    assert falls[2] < -8
    assert falls[40] > 8


def test_which_labels_are_used() -> None:
    """Labels 0 .. 6 have 8 .. 14 rows, label 7 has 14 again, label 8 has 7."""
    sizes = [8, 9, 10, 11, 12, 13, 14, 14, 7]
    labels = torch.cat([torch.full((n,), k) for k, n in enumerate(sizes)])[None]
    # Label k lies along axis k, so that the capacity tells how many are used.
    x = torch.eye(9, dtype=torch.float64)[labels]
    used = {}
    for wanted in (None, 2, 5, 8, 20):
        (one,) = manifold_capacity(x, labels, seeds=[0], labels_used=wanted)
        used[wanted] = one.spread.parameters["classes"]
        assert one.capacity.parameters["classes"] == (wanted if wanted in (2, 5) else 8)
    assert used == {None: 8, 2: 2, 5: 5, 8: 8, 20: 8}
    (most,) = manifold_capacity(x, labels, seeds=[0], per_label=12)
    assert most.capacity.parameters == {"classes": 4, "d": 9, "draws": 10, "per_label": 12}
    # Rows of the two largest labels alone: all others agree with label 6.
    x[0, labels[0] < 6] = x[0, labels[0] == 6][0]
    (pair,) = manifold_capacity(x, labels, seeds=[0], labels_used=2)
    assert pair.capacity.value == pytest.approx(1.0)


def test_batch_equals_single_and_names_of_labels_do_not_matter() -> None:
    x = normal(3, 200, 16, 8)
    labels = torch.cat([classes(10, 20), classes(25, 8), classes(10, 20)])
    together = manifold_capacity(x, labels, seeds=[1, 2, 3])
    assert together == manifold_capacity(x, labels, seeds=[1, 2, 3])
    for i in range(3):
        (alone,) = manifold_capacity(x[i : i + 1], labels[i : i + 1] + 100, seeds=[1 + i])
        for side in ("capacity", "spread"):
            a, b = getattr(alone, side), getattr(together[i], side)
            assert a.value == pytest.approx(b.value, abs=1e-12)
            assert a.null_mean == pytest.approx(b.null_mean, abs=1e-12)


def test_sums_of_shards_give_the_capacity_of_all_rows() -> None:
    x, labels = normal(1, 640, 16, 9)[0].numpy(), classes(32, 20)[0].numpy()
    order = np.random.default_rng(0).permutation(640)
    whole = ClassSums.of_rows(x, labels)
    shards = ClassSums.zero(16)
    for part in np.array_split(order, 8):
        shards = shards + ClassSums.of_rows(x[part], labels[part])
    one, two = manifold_capacity_of_sums([whole, shards])
    assert one.value == pytest.approx(two.value, abs=1e-10)
    (rows,) = manifold_capacity(
        torch.from_numpy(x)[None], torch.from_numpy(labels)[None], seeds=[0], per_label=20
    )
    assert one.value == pytest.approx(rows.capacity.value, abs=1e-5)
    assert (one.n, one.estimator) == (640, "manifold_capacity_pooled")
    assert manifold_capacity_of_sums([whole], labels_used=8)[0].parameters["classes"] == 8


def test_sums_without_manifolds_say_why() -> None:
    one = ClassSums.of_rows(np.ones((20, 3)), np.zeros(20, np.int64))
    none = ClassSums.of_rows(np.ones((20, 0)), np.arange(20))
    found = manifold_capacity_of_sums([ClassSums.zero(3), one, none])
    assert [item.undefined for item in found] == ["n", "classes", "n"]
    collapsed = ClassSums.of_rows(np.ones((64, 8)), np.arange(64) // 8)
    (item,) = manifold_capacity_of_sums([collapsed])
    assert item.value == pytest.approx(math.sqrt(8) / 8, abs=1e-12)


def test_degenerate_items_say_why_and_harm_no_other() -> None:
    x, labels = normal(5, 64, 4, 10), classes(8, 8, 5)
    x[0, 3, 1], x[1], labels[2], labels[3] = float("nan"), 2.0, 7, torch.arange(64)
    found = manifold_capacity(x, labels, seeds=range(5))
    reasons = ["nan", "constant", "classes", "classes", ""]
    assert [one.capacity.undefined for one in found] == reasons
    assert [one.spread.undefined for one in found] == reasons
    for rows in (x[:1, :0], x[:1, :, :0]):
        (none,) = manifold_capacity(rows, labels[:1, : rows.shape[1]], seeds=[0])
        assert none.capacity.undefined == "n"
    assert manifold_capacity(x[:0], labels[:0], seeds=[]) == []
    (pairs,) = manifold_capacity(x[4:], torch.arange(64)[None] // 2, seeds=[0])
    assert (pairs.capacity.undefined, pairs.spread.undefined) == ("", "classes")
    # Rows of zeros, and entries whose squares overflow.
    x[4, :5], x[4, 9] = 0.0, 1e200
    (odd,) = manifold_capacity(x[4:], labels[4:], seeds=[0])
    assert 0.0 < odd.capacity.value < 1.0


def test_wrong_shapes_and_settings() -> None:
    with pytest.raises(ValueError, match="x, labels, seeds"):
        manifold_capacity(torch.ones(1, 3, 4), torch.ones(1, 4), seeds=[0])
    x, labels = torch.ones(1, 4, 4), torch.zeros(1, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="per_label"):
        manifold_capacity(x, labels, seeds=[0], per_label=0)
    with pytest.raises(ValueError, match="drawn"):
        manifold_capacity(x, labels, seeds=[0], drawn=0)
    with pytest.raises(ValueError, match="labels_used"):
        manifold_capacity(x, labels, seeds=[0], labels_used=1)
