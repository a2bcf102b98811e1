"""Spectra: eigenvalues, reasons, and that readings share them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from infoplane.estimators import (
    effective_rank,
    epsilon_rank,
    representation_rate,
    von_neumann_entropy,
)
from infoplane.estimators.geometry.spectrum import spectra, spectra_of
from infoplane.estimators.state import Moments


def some() -> list[Moments]:
    """Return moments of several widths, good and bad."""
    generator = np.random.default_rng(0)
    return [
        Moments.of_rows(generator.normal(size=(50, 4))),
        Moments.zero(3),
        Moments.of_rows(np.full((10, 3), np.nan)),
        Moments.of_rows(np.full((10, 2), 5.0)),
        Moments.of_rows(generator.normal(size=(50, 3))),
        Moments.of_rows(np.zeros((10, 0))),
        Moments(math.inf, np.zeros(2), np.eye(2)),
        Moments.of_rows(generator.normal(size=(1, 2))),
        Moments.of_rows(generator.normal(size=(3, 9))),
    ]


def test_eigenvalues_are_those_of_the_covariance() -> None:
    items = some()
    found = spectra(items)
    reasons = ["", "n", "nan", "constant", "", "n", "nan", "n", ""]
    assert [one.reason for one in found] == reasons
    assert [one.d for one in found] == [4, 3, 3, 2, 3, 0, 2, 2, 9]
    for item, one in zip(items, found, strict=True):
        if one.reason:
            assert one.eigenvalues.size == 0
            assert math.isfinite(one.n)
        else:
            truth = np.maximum(np.linalg.eigvalsh(item.covariance()), 0.0)
            np.testing.assert_allclose(one.eigenvalues, truth, atol=1e-12)
            assert (one.eigenvalues >= 0).all()
    assert spectra([]) == []


@pytest.mark.parametrize(
    "reading", [von_neumann_entropy, effective_rank, representation_rate, epsilon_rank]
)
def test_readings_take_spectra_in_place_of_moments(reading: object) -> None:
    assert callable(reading)
    items = some()
    assert repr(reading(spectra(items))) == repr(reading(items))


def test_moments_and_spectra_may_be_mixed() -> None:
    items = some()
    held = spectra(items)
    mixed = [held[0], items[1], held[2], items[4]]
    found = spectra_of(mixed, "cpu")
    assert found[0] is held[0]
    assert [one.d for one in found] == [4, 3, 3, 3]
    np.testing.assert_allclose(found[3].eigenvalues, held[4].eigenvalues, atol=1e-12)
