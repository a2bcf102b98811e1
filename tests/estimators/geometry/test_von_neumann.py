"""Spectral entropy: closed forms, invariance, bias."""

from __future__ import annotations

import math

import numpy as np
import pytest

from infoplane.estimators import effective_rank, von_neumann_entropy
from infoplane.estimators.state import Moments


def population(covariance: np.ndarray, n: float = 1e12) -> Moments:
    """Return moments of n rows that have exactly this covariance and mean zero."""
    d = covariance.shape[0]
    return Moments(n, np.zeros(d), covariance * (n - 1))


def rotation(d: int, seed: int) -> np.ndarray:
    """Return a random rotation."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


@pytest.mark.parametrize("rank", [1, 2, 7, 32])
def test_equal_eigenvalues_give_their_number(rank: int) -> None:
    spectrum = np.diag([1.0] * rank + [0.0] * (32 - rank))
    q = rotation(32, rank)
    items = [population(scale * q @ spectrum @ q.T) for scale in (1e-6, 1.0, 1e6)]
    for entropy, rank_estimate in zip(
        von_neumann_entropy(items), effective_rank(items), strict=True
    ):
        assert entropy.value == pytest.approx(math.log(rank), abs=1e-6)
        assert rank_estimate.value == pytest.approx(rank, abs=1e-4)
        assert entropy.ceiling == pytest.approx(math.log(32))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_correction_removes_most_of_the_bias(power: float) -> None:
    variance = np.arange(1, 33.0) ** -power
    p = variance / variance.sum()
    truth = float(-(p * np.log(p)).sum())
    generator = np.random.default_rng(1)
    items = [
        Moments.of_rows(generator.normal(size=(512, 32)) * np.sqrt(variance) + 1.0)
        for _ in range(40)
    ]
    estimates = von_neumann_entropy(items)
    assert np.mean([e.value for e in estimates]) == pytest.approx(truth, abs=0.02)


def test_rotation_scale_and_shift_change_nothing() -> None:
    generator = np.random.default_rng(2)
    x = generator.normal(size=(300, 8)) * np.arange(1, 9)
    items = [Moments.of_rows(y) for y in (x, 7.0 * x @ rotation(8, 1), x + 3.0)]
    values = [e.value for e in von_neumann_entropy(items)]
    assert values == pytest.approx([values[0]] * 3, abs=1e-9)


def test_shards_give_the_pooled_value() -> None:
    x = np.random.default_rng(3).normal(size=(400, 8))
    shards = Moments.of_rows(x[:150]) + Moments.of_rows(x[150:])
    one, pooled = von_neumann_entropy([shards, Moments.of_rows(x)])
    assert one.value == pytest.approx(pooled.value, abs=1e-12)


def test_band_covers_the_spread_over_samples() -> None:
    generator = np.random.default_rng(4)
    scale = np.arange(1, 17.0) ** -0.5
    items = [Moments.of_rows(generator.normal(size=(500, 16)) * scale) for _ in range(60)]
    estimates = von_neumann_entropy(items)
    half = np.mean([e.band[1] - e.value for e in estimates if e.band])
    assert half / 1.96 == pytest.approx(np.std([e.value for e in estimates]), rel=0.35)


def test_mixed_widths_keep_their_order_and_degenerate_items_say_why() -> None:
    generator = np.random.default_rng(5)
    nan = Moments(10.0, np.zeros(3), np.full((3, 3), np.nan))
    items = [
        Moments.of_rows(generator.normal(size=(50, 4))),
        Moments.zero(3),
        nan,
        Moments.of_rows(np.full((10, 2), 5.0)),
        Moments.of_rows(generator.normal(size=(50, 3))),
        Moments.of_rows(generator.normal(size=(4, 9))),
    ]
    estimates = von_neumann_entropy(items)
    assert [e.undefined for e in estimates] == ["", "n", "nan", "constant", "", ""]
    assert [e.parameters["d"] for e in estimates] == [4, 3, 3, 2, 3, 9]
    assert [e.saturated for e in estimates] == [False] * 5 + [True]
    assert all(math.isnan(e.value) for e in effective_rank(items)[1:4])
    assert von_neumann_entropy([]) == []
    assert von_neumann_entropy([Moments.of_rows(generator.normal(size=(9, 1)))])[0].value == 0.0


@pytest.mark.parametrize(("d", "n", "plug_in"), [(128, 256, 4.599), (128, 1024, 4.789)])
def test_bias_of_an_isotropic_spectrum_is_taken_off(d: int, n: int, plug_in: float) -> None:
    """Plug-in values lack (d + 1) / 2n to second order; what is left is within 1 % of ln d."""
    generator = np.random.default_rng(6)
    items = [Moments.of_rows(generator.normal(size=(n, d))) for _ in range(4)]
    raw = []
    for item in items:
        p = np.linalg.eigvalsh(item.covariance())
        p = p / p.sum()
        raw.append(float(-(p * np.log(p)).sum()))
    assert np.mean(raw) == pytest.approx(plug_in, abs=0.005)
    assert math.log(d) - np.mean(raw) == pytest.approx((d + 1) / (2 * n), rel=0.03)
    for one in von_neumann_entropy(items):
        assert one.value == pytest.approx(math.log(d), rel=0.01)


def test_one_mode_that_grows_drives_the_entropy_to_zero() -> None:
    items = [population(np.diag([scale] + [1.0] * 15)) for scale in (1.0, 10.0, 1e3, 1e6)]
    values = [one.value for one in von_neumann_entropy(items)]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(math.log(16), abs=1e-9)
    assert values[-1] < 1e-3


@pytest.mark.parametrize("seed", range(64))
def test_any_split_into_shards_gives_the_pooled_value(seed: int) -> None:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(200, 6)) * np.arange(1, 7) + 2.0
    owner = generator.integers(0, int(generator.integers(1, 17)), 200)
    merged = Moments.zero(6)
    for i in generator.permutation(17):
        merged = merged + Moments.of_rows(x[owner == i])
    one, pooled = von_neumann_entropy([merged, Moments.of_rows(x)])
    assert one.value == pytest.approx(pooled.value, abs=1e-10)
