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
from infoplane.estimators.geometry.spectrum import (
    SMALL,
    covariances,
    spectra,
    spectra_of,
    symmetric_eigenvalues,
)
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


def test_covariances_of_a_batch_are_those_of_its_items() -> None:
    generator = np.random.default_rng(1)
    items = [Moments.of_rows(generator.normal(size=(n, 5)) + n) for n in (2, 9, 400)]
    for item, one in zip(items, covariances(items), strict=True):
        assert np.array_equal(one, item.covariance())


@pytest.mark.parametrize("d", [1, 5, SMALL, SMALL + 1])
def test_eigenvalues_of_a_batch_are_those_of_its_matrices(d: int) -> None:
    rows = np.random.default_rng(d).normal(size=(4, 2 * d, d))
    stack = rows.mT @ rows
    stack[2, 0, 0] = np.nan
    found = symmetric_eigenvalues(stack, "cpu")
    assert np.isnan(found[2]).all()
    for i in (0, 1, 3):
        truth = np.linalg.eigvalsh(stack[i])
        np.testing.assert_allclose(found[i], truth, rtol=1e-11, atol=1e-12 * truth[-1])
        assert (np.diff(found[i]) >= 0).all()
    assert symmetric_eigenvalues(stack[:0], "cpu").shape == (0, d)
    assert np.isnan(symmetric_eigenvalues(stack[2:3], "cpu")).all()


def test_ranks_of_entropies_are_those_of_moments() -> None:
    items = some()
    entropies = von_neumann_entropy(items)
    assert repr(effective_rank(entropies)) == repr(effective_rank(items))
    mixed = [entropies[0], items[1], items[4], entropies[4]]
    wanted = effective_rank([items[0], items[1], items[4], items[4]])
    assert repr(effective_rank(mixed)) == repr(wanted)
