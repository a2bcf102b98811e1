"""Correlations from joint moments, and the exact laws of Gaussian log-determinants."""

from __future__ import annotations

import numpy as np
import pytest

from infoplane.estimators.mutual_information.joint_correlation import (
    cholesky_root,
    information_bias,
    information_variance,
    joint_correlation,
    whitened_cross,
)
from infoplane.estimators.state import Moments


@pytest.mark.parametrize("unit", [1e-120, 1.0, 1e120])
def test_correlations_equal_numpy_in_any_unit(unit: float) -> None:
    x = np.random.default_rng(0).normal(size=(60, 4)) + 2.0
    x[:, 2] += x[:, 0]
    found = joint_correlation(Moments.of_rows(x * unit))
    assert found.reason == ""
    assert found.varies.all()
    np.testing.assert_allclose(found.matrix, np.corrcoef(x.T), atol=1e-12)


def test_columns_that_do_not_vary_stand_alone() -> None:
    x = np.random.default_rng(0).normal(size=(60, 4)) + 2.0
    x[:, 1], x[:, 3] = 0.1, 0.0
    found = joint_correlation(Moments.of_rows(x))
    assert found.varies.tolist() == [True, False, True, False]
    np.testing.assert_array_equal(found.matrix[[1, 3]], np.eye(4)[[1, 3]])


def test_reasons() -> None:
    x = np.random.default_rng(0).normal(size=(60, 4))
    assert joint_correlation(Moments.of_rows(x[:5])).reason == "n"
    assert joint_correlation(Moments.of_rows(x[:6])).reason == ""
    assert joint_correlation(Moments.of_rows(np.ones((60, 4)))).reason == "constant"
    assert joint_correlation(Moments(float("nan"), np.zeros(2), np.eye(2))).reason == "nan"
    x[3, 1] = np.inf
    assert joint_correlation(Moments.of_rows(x)).reason == "nan"


def test_whitened_cross_has_the_canonical_correlations() -> None:
    matrix = np.eye(4)
    matrix[0, 2] = matrix[2, 0] = 0.8
    matrix[1, 3] = matrix[3, 1] = 0.3
    cross = whitened_cross(matrix, 2)
    assert cross is not None
    np.testing.assert_allclose(np.linalg.svd(cross, compute_uv=False), [0.8, 0.3], atol=1e-14)
    matrix[0, 1] = matrix[1, 0] = 1.0
    assert whitened_cross(matrix, 2) is None
    assert cholesky_root(np.array([[1.0, 2.0], [2.0, 1.0]])) is None


@pytest.mark.parametrize(("n", "dx", "dy"), [(12, 2, 3), (40, 6, 6), (64, 1, 20)])
def test_bias_and_variance_under_independence(n: int, dx: int, dy: int) -> None:
    """Mean and variance of simulated Wilks informations, within 4 standard errors."""
    generator = np.random.default_rng([n, dx, dy])
    i = np.arange(1, dx + 1)
    draws = -0.5 * np.log(generator.beta((n - dy - i) / 2.0, dy / 2.0, (20_000, dx))).sum(1)
    mean, variance = draws.mean(), draws.var(ddof=1)
    assert information_bias(n, dx, dy) == pytest.approx(mean, abs=4 * (variance / 20_000) ** 0.5)
    spread = np.square(draws - mean).std() / 20_000**0.5
    assert information_variance(n, dx, dy) == pytest.approx(variance, abs=4 * spread)
    assert information_variance(n, dy, dx) == pytest.approx(information_variance(n, dx, dy))


def test_bias_and_variance_agree_with_their_first_order() -> None:
    n = 100_000
    assert information_bias(n, 3, 5) == pytest.approx(15 / (2 * n), rel=1e-3)
    assert information_variance(n, 3, 5) == pytest.approx(15 / (2 * n * n), rel=1e-3)
