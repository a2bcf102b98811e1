"""Quadrature of the spectrum against all eigenvalues."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infoplane.estimators.geometry.diffusion_kernel import gram, normalise, spectral_entropy
from infoplane.estimators.geometry.lanczos import entropy_by_quadrature


def of_spectrum(values: np.ndarray, seed: int) -> torch.Tensor:
    q = np.linalg.qr(np.random.default_rng(seed).normal(size=(values.size, values.size)))[0]
    return torch.from_numpy(q @ np.diag(values) @ q.T)


def entropy(values: np.ndarray) -> float:
    p = values[values > 0] / values.sum()
    return float(-(p * np.log2(p)).sum())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    "values",
    [
        np.arange(1, 601.0) ** -1.0,
        np.exp(-np.arange(600) / 100.0),
        np.concatenate([np.ones(10), np.full(590, 1e-3)]),
        np.linspace(0.0, 1.0, 600),
    ],
    ids=["power", "exponential", "ten", "flat"],
)
def test_known_spectra(values: np.ndarray, seed: int) -> None:
    operator = of_spectrum(values, seed)
    for dtype in (torch.float32, torch.float64):
        found = entropy_by_quadrature(operator.to(dtype), seed)
        assert found.bits == pytest.approx(entropy(values), abs=0.02)
        assert 0.0 <= found.error < 0.02


def test_a_quadratic_part_costs_no_variance() -> None:
    """With two eigenvalues outside the deflated space, f is a line there: known traces decide."""
    values = np.concatenate([np.full(200, 0.3), np.full(400, 0.1)])
    for seed in range(5):
        found = entropy_by_quadrature(of_spectrum(values, seed), seed)
        assert found.bits == pytest.approx(entropy(values), abs=1e-9)
        assert found.error < 1e-9


def test_error_covers_the_spread_over_seeds() -> None:
    values = np.arange(1, 401.0) ** -0.7
    operator = of_spectrum(values, 3)
    found = [entropy_by_quadrature(operator, seed) for seed in range(40)]
    spread = float(np.std([one.bits for one in found], ddof=1))
    assert np.sqrt(np.mean([one.error**2 for one in found])) == pytest.approx(spread, rel=0.4)


def test_degenerate_operators() -> None:
    one = torch.full((64, 64), 1 / 64)
    assert entropy_by_quadrature(one, 0).bits == pytest.approx(0.0, abs=1e-4)
    assert entropy_by_quadrature(torch.eye(64), 0).bits == pytest.approx(6.0, abs=1e-5)
    assert entropy_by_quadrature(torch.eye(2), 0).bits == pytest.approx(1.0, abs=1e-5)
    assert entropy_by_quadrature(torch.ones(1, 1), 0).bits == pytest.approx(0.0, abs=1e-6)


def test_kernels_of_clusters_and_tails() -> None:
    r = np.random.default_rng(7)
    clusters = r.normal(size=(10, 32))[r.integers(0, 10, 1024)] + 0.3 * r.normal(size=(1024, 32))
    x = torch.from_numpy(np.stack([clusters, r.standard_t(3, size=(1024, 32))]))
    matrices = gram(x, torch.tensor([3.0, 4.0], dtype=torch.float64), torch.float64)
    operators = normalise(matrices, "walk")
    for operator, exact in zip(operators, spectral_entropy(operators, 1).tolist(), strict=True):
        found = entropy_by_quadrature(operator.to(torch.float32), 1)
        assert found.bits == pytest.approx(exact, abs=0.02)
