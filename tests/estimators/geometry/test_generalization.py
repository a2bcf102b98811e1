"""Generalization gap: difference, band, merging, degenerate sums."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from infoplane.estimators.geometry.generalization import generalization_gap


def sums(losses: npt.NDArray[np.float64] | list[float]) -> tuple[float, float, float]:
    values = np.asarray(losses, dtype=np.float64)
    return float(values.size), float(values.sum()), float(np.square(values).sum())


def test_gap_and_error_equal_welch() -> None:
    generator = np.random.default_rng(0)
    train, held = generator.exponential(2.0, 900), 0.3 + generator.exponential(2.0, 70)
    found = generalization_gap(sums(train), sums(held))
    error = math.sqrt(train.var(ddof=1) / 900 + held.var(ddof=1) / 70)
    gap = held.mean() - train.mean()
    assert (found.n, found.unit, found.null_mean) == (70, "nats", 0.0)
    assert found.value == pytest.approx(gap, abs=1e-12)
    assert found.null_sd == pytest.approx(error, abs=1e-12)
    assert found.band == pytest.approx((gap - 1.96 * error, gap + 1.96 * error), abs=1e-12)
    added = np.add(np.add(sums(train[:7]), sums(train[7:7])), sums(train[7:])).tolist()
    merged = generalization_gap((added[0], added[1], added[2]), sums(held))
    assert merged.value == pytest.approx(gap, abs=1e-12)
    assert merged.null_sd == pytest.approx(error, abs=1e-12)


def test_band_covers_the_null() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for _ in range(1000):
        band = generalization_gap(
            sums(generator.exponential(2.0, 400)), sums(generator.exponential(2.0, 100))
        ).band
        hits += band is not None and band[0] <= 0.0 <= band[1]
    assert hits / 1000 == pytest.approx(0.95, abs=0.025)


def test_degenerate_sums() -> None:
    some = sums([1.0, 2.0, 3.0])
    assert generalization_gap(some, sums([1.0])).undefined == "n"
    assert generalization_gap((0.0, 0.0, 0.0), some).undefined == "n"
    assert generalization_gap((-3.0, 1.0, 1.0), some).n == 0
    for odd in (math.nan, math.inf):
        assert generalization_gap(some, sums([1.0, odd, 2.0])).undefined == "nan"
        assert generalization_gap((odd, 1.0, 1.0), some).undefined == "nan"
    assert generalization_gap(some, (3.0, 1e300, 1e300)).undefined == "nan"
    flat = generalization_gap(sums([0.1] * 9), sums([0.4] * 9))
    assert flat.value == pytest.approx(0.3)
    assert flat.null_sd == pytest.approx(0.0, abs=1e-8)
