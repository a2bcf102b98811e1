"""Distances, Gram matrices and operators against direct formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist

from infoplane.estimators.geometry.diffusion_kernel import (
    gram,
    median_distance,
    normalise,
    spectral_entropy,
)


def rows(t: int, n: int, d: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(t, n, d)))


@pytest.mark.parametrize("n", [2, 3, 90, 512])
def test_median_is_numpys_lower_median(n: int) -> None:
    x = rows(3, n, 5, n) + 100.0
    expected = [float(np.quantile(pdist(item), 0.5, method="lower")) for item in x.numpy()]
    assert median_distance(x).tolist() == pytest.approx(expected, rel=1e-9)


def test_median_of_many_rows_is_near_that_of_all_pairs() -> None:
    x = rows(1, 3000, 16, 1)
    assert float(median_distance(x)) == pytest.approx(np.median(pdist(x[0].numpy())), rel=0.02)


def test_median_of_degenerate_items() -> None:
    x = rows(4, 40, 3, 2)
    x[0] = 7.3
    x[1, :35] = x[1, 0]
    x[2, 1, 1] = torch.nan
    found = median_distance(x)
    assert found[:2].tolist() == [0.0, 0.0]
    assert math.isnan(float(found[2]))
    assert float(found[3]) > 0
    assert median_distance(x[:, :1]).isnan().all()
    assert median_distance(x[:0]).shape == (0,)
    with pytest.raises(ValueError, match="x: expected"):
        median_distance(x[0])


@pytest.mark.parametrize("n", [50, 1100])
def test_gram_is_the_kernel_of_the_distances(n: int) -> None:
    x = rows(2, n, 6, 3) + 50.0
    found = gram(x, torch.tensor([1.0, 3.0], dtype=torch.float64), torch.float64)
    for item, matrix, s in zip(x.numpy(), found.numpy(), (1.0, 3.0), strict=True):
        assert (
            np.abs(matrix - np.exp(-cdist(item, item, "sqeuclidean") / (2 * s * s))).max() < 1e-11
        )
        assert (np.diagonal(matrix) == 1.0).all()


def test_equal_rows_are_not_apart() -> None:
    x = rows(1, 20, 9, 4).repeat(1, 3, 1) * 1e4
    found = gram(x, torch.ones(1, dtype=torch.float64), torch.float64)[0]
    assert (found.reshape(3, 20, 3, 20).diagonal(dim1=1, dim2=3) == 1.0).all()


def test_operators_have_the_spectrum_of_the_random_walk() -> None:
    x = rows(1, 80, 4, 5)
    kernel = gram(x, torch.tensor([1.5], dtype=torch.float64), torch.float64)
    g = kernel[0].numpy().copy()
    for form, alpha in (("walk", 0.0), ("anisotropic", 0.5)):
        degree = g.sum(1) ** -alpha
        weighted = degree[:, None] * g * degree
        walk = weighted / weighted.sum(1, keepdims=True)
        expected = np.sort(np.linalg.eigvals(walk).real)
        operator = normalise(kernel.clone(), form)[0]
        assert np.linalg.eigvalsh(operator.numpy()) == pytest.approx(expected, abs=1e-12)
        assert expected[-1] == pytest.approx(1.0)


def test_entropy_of_a_known_spectrum_and_its_powers() -> None:
    values = np.array([1.0, 0.5, 0.25, -0.25, 0.0])
    q = np.linalg.qr(np.random.default_rng(6).normal(size=(5, 5)))[0]
    operator = torch.from_numpy(q @ np.diag(values) @ q.T)
    for power in (1, 2, 0.5):
        p = np.abs(values[:4]) ** power
        p /= p.sum()
        expected = float(-(p * np.log2(p)).sum())
        # The zero eigenvalue comes back as rounding, which a root magnifies.
        assert float(spectral_entropy(operator, power)) == pytest.approx(expected, abs=1e-6)
