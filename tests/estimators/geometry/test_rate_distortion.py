"""Rate and rank of a spectrum: closed forms, invariance, bias, bands."""

from __future__ import annotations

import math

import numpy as np
import pytest

from infoplane.estimators import epsilon_rank, representation_rate
from infoplane.estimators.state import Moments


def with_spectrum(values: list[float], n: float = 1e12) -> Moments:
    """Return moments of mean 0 whose unbiased covariance has exactly these eigenvalues."""
    d = len(values)
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(d, d)))
    return Moments(n, np.zeros(d), (n - 1) * (q * values) @ q.T)


def rows(n: int, d: int, seed: int, rank: int | None = None) -> Moments:
    """Return moments of normal rows, of full rank or of ``rank``."""
    generator = np.random.default_rng(seed)
    if rank is None:
        return Moments.of_rows(generator.normal(size=(n, d)))
    return Moments.of_rows(generator.normal(size=(n, rank)) @ generator.normal(size=(rank, d)))


def sampled(generator: np.random.Generator, spectrum: np.ndarray, n: int) -> Moments:
    """Return moments of n normal rows with this covariance, without drawing the rows."""
    d = len(spectrum)
    root = np.tril(generator.normal(size=(d, d)), -1)
    root += np.diag(np.sqrt(generator.chisquare(n - 1 - np.arange(d))))
    root *= np.sqrt(spectrum)[:, None]
    return Moments(float(n), np.zeros(d), root @ root.T)


def rate(values: list[float], distortion: float) -> float:
    """Return the rate of a spectrum."""
    return representation_rate([with_spectrum(values)], distortion=distortion)[0].value


def test_a_quarter_of_equal_variances_takes_one_bit_a_column() -> None:
    (one,) = representation_rate([with_spectrum([3.0] * 16)], distortion=0.25)
    assert one.value == pytest.approx(16.0, abs=1e-6)
    assert one.ceiling == pytest.approx(16.0)
    assert one.unit == "bits"
    assert not one.saturated


@pytest.mark.parametrize(
    ("lost", "bits"),
    [
        # theta = 1/4, 1, 3 and 4 of eigenvalues 8, 4, 1, 1.
        (1.0, 0.5 * (math.log2(32) + math.log2(16) + 2 * math.log2(4))),
        (4.0, 0.5 * (math.log2(8) + math.log2(4))),
        (8.0, 0.5 * (math.log2(8 / 3) + math.log2(4 / 3))),
        (10.0, 0.5),
        (12.0, 0.5 * math.log2(8 / 6)),
    ],
)
def test_water_covers_the_small_eigenvalues(lost: float, bits: float) -> None:
    assert rate([8.0, 4.0, 1.0, 1.0], lost / 14) == pytest.approx(bits, abs=1e-6)


def test_directions_without_variance_take_nothing() -> None:
    assert rate([8.0, 4.0, 1.0, 1.0, 0.0, 0.0], 4 / 14) == pytest.approx(2.5, abs=1e-6)
    assert rate([5.0, 0.0, 0.0], 0.25) == pytest.approx(1.0, abs=1e-6)


def test_rate_and_rank_fall_with_what_may_be_lost() -> None:
    moments = rows(2000, 12, 3)
    shares = (1e-6, 0.01, 0.05, 0.2, 0.7, 0.999)
    rates = [representation_rate([moments], distortion=x)[0].value for x in shares]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0
    ranks = [epsilon_rank([moments], eps=x)[0].value for x in shares]
    assert ranks == sorted(ranks, reverse=True)
    assert (ranks[0], ranks[-1]) == (12.0, 1.0)


def test_rotation_scale_and_shift_change_nothing() -> None:
    x = np.random.default_rng(4).normal(size=(500, 12)) * np.arange(1, 13)
    q, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(12, 12)))
    items = [Moments.of_rows(y) for y in (x, 7.0 * x @ q, x + 3.0, 1e-6 * x)]
    for estimator in (representation_rate, epsilon_rank):
        values = [one.value for one in estimator(items)]
        assert values == pytest.approx([values[0]] * 4, abs=1e-8)


@pytest.mark.parametrize(("n", "distortion"), [(512, 0.05), (1024, 0.05), (512, 0.4)])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_correction_removes_most_of_the_bias(power: float, n: int, distortion: float) -> None:
    spectrum = np.arange(1, 33.0) ** -power
    truth = rate(spectrum.tolist(), distortion)
    generator = np.random.default_rng(6)
    items = [sampled(generator, spectrum, n) for _ in range(40)]
    found = representation_rate(items, distortion=distortion)
    values = np.array([one.value for one in found])
    assert abs(values.mean() - truth) < 0.02 + 3.0 * values.std() / math.sqrt(40)
    # Uncorrected, equal eigenvalues lack 1/4 d (d + 1) / (n - 1) nats.
    if power == 0.0:
        assert 32 * 33 / (4 * math.log(2) * n) > 10 * abs(values.mean() - truth)


def test_band_covers_fresh_samples() -> None:
    spectrum = np.geomspace(1, 20, 8)
    truth = rate(spectrum.tolist(), 0.05)
    generator = np.random.default_rng(7)
    items = [sampled(generator, spectrum, 1000) for _ in range(200)]
    bands = [one.band for one in representation_rate(items)]
    inside = sum(band is not None and band[0] < truth < band[1] for band in bands)
    assert 180 <= inside <= 198


@pytest.mark.parametrize(
    ("moments", "eps", "expected"),
    [
        (rows(1024, 64, 0, rank=4), 1e-9, 4),
        (rows(1024, 64, 0), 0.05, 59),
        (with_spectrum([1.0] * 64), 0.05, 61),
        (with_spectrum([1.0] * 4), 0.25, 3),
        (with_spectrum([97.0, 1.0, 1.0, 1.0]), 0.05, 1),
    ],
)
def test_epsilon_rank(moments: Moments, eps: float, expected: int) -> None:
    (one,) = epsilon_rank([moments], eps=eps)
    assert one.value == expected
    assert one.unit == "1"
    assert one.ceiling == moments.d
    assert one.band is not None
    assert 1 <= one.band[0] <= expected <= one.band[1] <= moments.d


def test_rank_band_covers_fresh_samples_of_an_uneven_spectrum() -> None:
    spectrum = np.arange(1, 65.0) ** -1.0
    (truth,) = epsilon_rank([with_spectrum(spectrum.tolist())], eps=0.2)
    generator = np.random.default_rng(8)
    items = [sampled(generator, spectrum, 8000) for _ in range(100)]
    found = epsilon_rank(items, eps=0.2)
    inside = sum(o.band[0] <= truth.value <= o.band[1] for o in found if o.band)
    assert inside >= 90
    assert any(o.band[0] < o.band[1] for o in found if o.band)


def test_few_rows_limit_rank_and_rate() -> None:
    (rank,) = epsilon_rank([rows(9, 64, 5)], eps=1e-6)
    assert (rank.value, rank.ceiling, rank.saturated) == (8.0, 8.0, True)
    (bits,) = representation_rate([rows(9, 64, 5)], distortion=0.25)
    assert bits.ceiling == pytest.approx(8.0)
    assert bits.saturated
    assert 0 < bits.value <= 8.0


def test_shards_give_what_the_whole_gives() -> None:
    x = np.random.default_rng(6).normal(size=(700, 10))
    whole = Moments.of_rows(x)
    parts = Moments.zero(10)
    for part in np.array_split(x, 8):
        parts = parts + Moments.of_rows(part)
    for estimator in (representation_rate, epsilon_rank):
        assert estimator([parts])[0].value == pytest.approx(estimator([whole])[0].value, abs=1e-9)


def test_mixed_widths_keep_their_order_and_degenerate_items_say_why() -> None:
    items = [
        rows(50, 4, 1),
        Moments.zero(3),
        Moments.of_rows(np.ones((1, 4))),
        Moments.of_rows(np.ones((50, 4))),
        Moments.of_rows(np.full((50, 4), np.nan)),
        Moments.of_rows(np.zeros((50, 0))),
        rows(50, 3, 2),
        rows(50, 1, 3),
        rows(2, 4, 4),
    ]
    for estimator in (representation_rate, epsilon_rank):
        found = estimator(items)
        reasons = ["", "n", "n", "constant", "nan", "n", "", "", ""]
        assert [one.undefined for one in found] == reasons
        assert [one.parameters["d"] for one in found] == [item.d for item in items]
        for item, one in zip(items, found, strict=True):
            (single,) = estimator([item])
            assert one.value == pytest.approx(single.value, abs=1e-12, nan_ok=True)
        assert estimator([]) == []


def test_shares_outside_0_to_1_are_refused() -> None:
    for share in (0.0, 1.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="distortion: expected a number between 0 and 1"):
            representation_rate([], distortion=share)
        with pytest.raises(ValueError, match="eps: expected"):
            epsilon_rank([], eps=share)
