"""Weighted Kozachenko-Leonenko entropy: closed forms, weights, what it refuses."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from infoplane.estimators.entropy.nearest_neighbours import (
    entropy_terms,
    neighbour_weights,
    weighted_kl_entropy,
)
from infoplane.estimators.estimate import Estimate


def mean(estimates: list[Estimate]) -> float:
    """Return the mean value."""
    return sum(e.value for e in estimates) / len(estimates)


@pytest.mark.parametrize(
    ("d", "tolerance"), [(1, 0.1), (2, 0.1), (3, 0.1), (4, 0.1), (5, 0.15), (6, 0.15)]
)
def test_gaussian_entropy(data: SimpleNamespace, d: int, tolerance: float) -> None:
    x, _ = data.independent(4, 2000, d, seed=d)
    truth = 0.5 * d * math.log(2 * math.pi * math.e)
    assert mean(weighted_kl_entropy(x, seeds=range(4))) == pytest.approx(truth, abs=tolerance)


def test_uniform_and_exponential_entropy() -> None:
    x = torch.rand(4, 2000, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert mean(weighted_kl_entropy(4.0 * x, seeds=range(4))) == pytest.approx(
        math.log(4.0), abs=0.06
    )
    assert mean(weighted_kl_entropy(-x.log(), seeds=range(4))) == pytest.approx(1.0, abs=0.06)


def test_linear_maps_add_their_log_determinant(data: SimpleNamespace) -> None:
    x, _ = data.independent(1, 500, 3, seed=1)
    maps = torch.randn(3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (plain,) = weighted_kl_entropy(x, seeds=[1])
    (mapped,) = weighted_kl_entropy(1e3 * x @ maps + 7.0, seeds=[1])
    change = float(torch.linalg.slogdet(1e3 * maps).logabsdet)
    assert mapped.value - plain.value == pytest.approx(change, abs=1e-5)


@pytest.mark.parametrize(("d", "k"), [(5, 5), (6, 5), (6, 9), (8, 5), (12, 12)])
def test_weights_meet_their_constraints(d: int, k: int) -> None:
    weights = neighbour_weights(d, k)
    assert sum(weights) == pytest.approx(1.0, abs=1e-9)
    for step in range(1, d // 4 + 1):
        terms = [
            w * math.exp(math.lgamma(j + 2 * step / d) - math.lgamma(j))
            for j, w in enumerate(weights, 1)
        ]
        assert sum(terms) == pytest.approx(0.0, abs=1e-8)


def test_weights_that_drop_a_constraint_are_refused(data: SimpleNamespace) -> None:
    assert neighbour_weights(4, 1) == (1.0,)
    assert neighbour_weights(5, 1) == ()
    x, _ = data.independent(1, 100, 5, seed=1)
    assert weighted_kl_entropy(x, seeds=[1], k=1)[0].undefined == "weights"


def test_equals_a_direct_nearest_neighbour_formula(data: SimpleNamespace) -> None:
    x, _ = data.independent(1, 200, 2, seed=5)
    terms = entropy_terms(x, torch.tensor([200]), k=5).rows[0]
    centred = x[0] - x[0].mean(0)
    root = torch.linalg.cholesky(centred.T @ centred / 199)
    white = torch.linalg.solve_triangular(root, centred.T, upper=False).T
    distance = torch.cdist(white, white, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distance.fill_diagonal_(torch.inf).amin(-1)
    psi = float(torch.digamma(torch.tensor(1.0, dtype=torch.float64)))
    expected = 2 * nearest.log() + math.log(math.pi) + math.log(199) - psi
    expected = expected + root.diagonal().log().sum()
    torch.testing.assert_close(terms, expected, rtol=0, atol=1e-9)


def test_padding_changes_nothing(data: SimpleNamespace) -> None:
    x, _ = data.independent(2, 60, 3, seed=5)
    alone = entropy_terms(x[:1, :40], torch.tensor([40]), k=5).rows
    padded = entropy_terms(x, torch.tensor([40, 60]), k=5).rows
    torch.testing.assert_close(padded[:1, :40], alone, rtol=0, atol=1e-9)
    assert bool(padded[0, 40:].isnan().all())


def test_batch_equals_single_items_and_band_covers(data: SimpleNamespace) -> None:
    x, _ = data.independent(3, 300, 4, seed=5)
    batch = weighted_kl_entropy(x, seeds=[7, 8, 9])
    for i, whole in enumerate(batch):
        (alone,) = weighted_kl_entropy(x[i : i + 1], seeds=[7 + i])
        assert alone.value == pytest.approx(whole.value, abs=1e-9)
        assert whole.band is not None
        assert whole.band[0] < whole.value < whole.band[1]
    many, _ = data.independent(200, 200, 1, seed=6)
    truth = 0.5 * math.log(2 * math.pi * math.e)
    inside = [
        e.band[0] <= truth <= e.band[1]
        for e in weighted_kl_entropy(many, seeds=range(200))
        if e.band
    ]
    assert sum(inside) >= 180


def test_a_few_repeated_rows_are_left_out_and_many_refused(data: SimpleNamespace) -> None:
    x, _ = data.independent(2, 1000, 2, seed=5)
    x[0, :20] = x[0, 20:40]
    x[1, :200] = x[1, 200:400]
    few, many = weighted_kl_entropy(x, seeds=[1, 2])
    assert few.value == pytest.approx(math.log(2 * math.pi * math.e), abs=0.15)
    assert many.undefined == "duplicates"
    whole_numbers = (4 * x).round()
    assert weighted_kl_entropy(whole_numbers, seeds=[1, 2])[0].undefined == "duplicates"


def test_degenerate_items(data: SimpleNamespace) -> None:
    x, _ = data.independent(6, 100, 3, seed=1)
    x[0, 3, 1], x[1, 4, 0], x[2] = float("nan"), float("inf"), 5.0
    x[3, :, 1], x[4, :, 2] = 2.0, x[4, :, 0] - x[4, :, 1]
    estimates = weighted_kl_entropy(x, seeds=range(6))
    assert [e.undefined for e in estimates] == [
        "nan", "nan", "constant", "singular", "singular", "",
    ]  # fmt: skip
    assert math.isfinite(estimates[5].value)
    assert weighted_kl_entropy(1e200 * x, seeds=range(6))[5].value == pytest.approx(
        estimates[5].value + 3 * math.log(1e200), abs=1e-6
    )
    assert weighted_kl_entropy(x[:, :4], seeds=range(6))[5].undefined == "n"
    assert weighted_kl_entropy(x[:, :0], seeds=range(6))[5].undefined == "n"
    assert weighted_kl_entropy(x[..., :0], seeds=range(6))[5].undefined == "d"
    assert weighted_kl_entropy(torch.randn(1, 50, 7), seeds=[1])[0].undefined == "d"
    assert weighted_kl_entropy(x[:0], seeds=[]) == []


def test_wrong_shapes_are_refused(data: SimpleNamespace) -> None:
    x, _ = data.independent(2, 64, 3, seed=5)
    with pytest.raises(ValueError, match="seeds"):
        weighted_kl_entropy(x, seeds=[1])
    with pytest.raises(ValueError, match="x, seeds"):
        weighted_kl_entropy(x[0], seeds=[1, 2])
    with pytest.raises(ValueError, match="k:"):
        weighted_kl_entropy(x, seeds=[1, 2], k=0)
