"""Reference points and temperature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import gammaln, ive

from infoplane.estimators.state.soft_reference import SoftReference


@pytest.mark.parametrize(("d", "expected"), [(32, 0.04461), (128, 0.02735), (512, 0.01434)])
def test_published_temperatures(d: int, expected: float) -> None:
    assert SoftReference(d).temperature() == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize("d", [2, 3, 8, 32, 128])
@pytest.mark.parametrize("points", [10, 100])
def test_exact_temperature_solves_the_divergence_by_bessel_functions(d: int, points: int) -> None:
    kappa = 1.0 / SoftReference(d, points, calibration="exact").temperature()
    order = d / 2 - 1
    log_bessel = math.log(ive(order, kappa)) + kappa
    partition = order * math.log(2 / kappa) + float(gammaln(d / 2)) + log_bessel
    ratio = ive(order + 1, kappa) / ive(order, kappa)
    assert kappa * ratio - partition == pytest.approx(math.log(points), abs=1e-5)


@pytest.mark.parametrize("d", [3, 8, 64, 4096])
def test_bound_is_sharper_than_exact_and_close_in_wide_rows(d: int) -> None:
    bound, exact = (SoftReference(d, calibration=c).temperature() for c in ("bound", "exact"))  # type: ignore[arg-type]
    assert 0 < bound < exact
    if d >= 64:
        assert bound == pytest.approx(exact, rel=0.03)


def test_points_are_fixed_unit_vectors() -> None:
    points = SoftReference(7, 50, 3).directions()
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, atol=1e-12)
    drawn = np.random.default_rng(3).standard_normal((50, 7))
    np.testing.assert_array_equal(points, drawn / np.linalg.norm(drawn, axis=1, keepdims=True))
    assert not np.allclose(points, SoftReference(7, 50, 4).directions())
    with pytest.raises(ValueError, match="read-only"):
        points[0, 0] = 1.0


def test_assignments_are_shares_and_see_directions_only() -> None:
    reference = SoftReference(7, 20)
    x = np.random.default_rng(1).normal(size=(9, 7))
    shares = reference.assignments(x)
    np.testing.assert_allclose(shares.sum(1), 1.0, atol=1e-12)
    np.testing.assert_allclose(reference.assignments(x * 1e200), shares, atol=1e-12)
    np.testing.assert_allclose(reference.assignments(x * 1e-200), shares, atol=1e-12)
    np.testing.assert_allclose(reference.assignments(np.zeros((1, 7))), 1 / 20)
    nearest = reference.assignments(reference.directions()).argmax(1)
    np.testing.assert_array_equal(nearest, np.arange(20))
    assert reference.assignments(np.zeros((0, 7))).shape == (0, 20)


def test_wrong_settings() -> None:
    for arguments in ((1, 100, 0), (8, 1, 0), (8, 100, -1)):
        with pytest.raises(ValueError, match="d, points, seed"):
            SoftReference(*arguments)
    with pytest.raises(ValueError, match="calibration"):
        SoftReference(8, calibration="other")  # type: ignore[arg-type]
