"""Moments."""

from __future__ import annotations

import numpy as np
import pytest

from infoplane.estimators.state import Moments


def test_covariance_and_mean_equal_numpy() -> None:
    x = np.random.default_rng(0).normal(size=(50, 4)) + 2.0
    found = Moments.of_rows(x.astype(np.float32))
    np.testing.assert_allclose(found.covariance(), np.cov(x.T), atol=1e-5)
    np.testing.assert_allclose(found.mean(), x.mean(0), atol=1e-6)


def test_few_rows_and_wrong_shapes() -> None:
    assert np.isnan(Moments.of_rows(np.ones((1, 2))).covariance()).all()
    assert Moments.zero(2).mean().tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="width 2 and 3"):
        Moments.zero(2).merge(Moments.zero(3))
    with pytest.raises(ValueError, match="outer"):
        Moments(1.0, np.zeros(2), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="x: expected"):
        Moments.of_rows(np.zeros(3))


def test_a_triangle_stands_for_both() -> None:
    for d in (0, 1, 4):
        moments = Moments.of_rows(np.random.default_rng(d).normal(size=(9, d)))
        triangle = moments.triangle
        assert triangle.tolist() == moments.outer[np.triu_indices(d)].tolist()
        for given in (triangle, triangle.astype(np.float32)):
            found = Moments.of_triangle(moments.n, moments.total, given)
            assert found.n == moments.n
            assert found.outer.dtype == np.float64
            assert np.array_equal(found.outer, found.outer.T)
            assert np.array_equal(np.triu(found.outer), np.triu(moments.outer.astype(given.dtype)))
        found.outer[:] = 7.0  # each has its own
        assert moments.triangle.tolist() == triangle.tolist()
    for total, wrong in (
        (np.zeros(2), np.zeros(4)),
        (np.zeros(2), np.zeros((3, 1))),
        (np.zeros((1, 2)), np.zeros(3)),
        (np.zeros((1, 2)), np.zeros(0)),
    ):
        with pytest.raises(ValueError, match="triangle"):
            Moments.of_triangle(1.0, total, wrong)
