"""Leave-one-tap-out predictability: identity, chain, shuffled join, nulls."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import numpy.typing as npt
import pytest

from infoplane.estimators.mutual_information.joint_correlation import information_bias
from infoplane.estimators.mutual_information.predictability import (
    join_integrity,
    tap_predictability,
)
from infoplane.estimators.state import Moments

WIDTHS = [8] * 6
Rows = npt.NDArray[np.float64]


def tanh_chain(seed: int, n: int = 4096) -> list[Rows]:
    """Return six taps of a chain z -> tanh(Wz) + noise, 8 columns each."""
    generator = np.random.default_rng(seed)
    taps = [generator.normal(size=(n, 8))]
    for _ in range(5):
        weights = generator.normal(size=(8, 8)) / math.sqrt(8)
        noise = generator.normal(size=(n, 8))
        taps.append(np.tanh(1.5 * taps[-1] @ weights) + 0.25 * noise)
    return taps


def read(taps: list[Rows]) -> Moments:
    return Moments.of_rows(np.concatenate(taps, axis=1))


def log_det(matrix: Rows) -> float:
    return float(np.linalg.slogdet(matrix)[1])


def test_precision_form_equals_the_three_determinants() -> None:
    generator = np.random.default_rng(0)
    widths = [3, 1, 5]
    x = generator.normal(size=(500, 9)) @ generator.normal(size=(9, 9)) + 3.0
    found = tap_predictability(Moments.of_rows(x), widths)
    covariance = np.cov(x.T)
    ends = np.cumsum([0, *widths])
    for item, a, b in zip(found.per_tap, ends, ends[1:], strict=False):
        inside = np.zeros(9, dtype=bool)
        inside[a:b] = True
        direct = 0.5 * (
            log_det(covariance[inside][:, inside])
            + log_det(covariance[~inside][:, ~inside])
            - log_det(covariance)
        ) - information_bias(500, int(b - a), int(9 - (b - a)))
        assert item.value == pytest.approx(direct, abs=1e-9)
        assert item.parameters["rank"] == 9


def test_total_correlation_is_the_chain_of_informations() -> None:
    taps = tanh_chain(1, n=600)[:3]
    whole = tap_predictability(read(taps), WIDTHS[:3]).total_correlation.value
    pair = tap_predictability(read(taps[:2]), WIDTHS[:2])
    last = tap_predictability(read(taps), WIDTHS[:3]).per_tap[2].value
    assert whole == pytest.approx(pair.total_correlation.value + last, abs=1e-9)
    # Of two taps, each tap's reading and the total are one number with one null and one band.
    for item in pair.per_tap:
        assert item.value == pytest.approx(pair.total_correlation.value, abs=1e-9)
        assert item.null_sd == pytest.approx(pair.total_correlation.null_sd, rel=1e-9)
        assert item.band == pytest.approx(pair.total_correlation.band, abs=1e-9)


def test_tanh_chain_reads_as_published() -> None:
    """Weights and noise of the published run are not known; these come near it on average."""
    found = [
        [item.value for item in tap_predictability(read(tanh_chain(seed)), WIDTHS).per_tap]
        for seed in range(6)
    ]
    published = [5.04, 7.16, 6.88, 6.57, 6.46, 4.43]
    np.testing.assert_allclose(np.mean(found, axis=0), published, atol=0.5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shuffled_rows_of_one_tap_are_found(seed: int) -> None:
    taps = tanh_chain(seed)
    intact = [item.value for item in tap_predictability(read(taps), WIDTHS).per_tap]
    # Inner taps have two neighbours, the ends have one.
    assert min(intact[1:5]) > max(intact[0], intact[5])
    taps[3] = taps[3][np.random.default_rng([seed, 1]).permutation(4096)]
    broken = [item.value for item in tap_predictability(read(taps), WIDTHS).per_tap]
    ratios = [join_integrity(b, [i] * 10).value for b, i in zip(broken, intact, strict=True)]
    assert ratios[3] < 0.01
    assert all(0.5 < ratio < 1.01 for i, ratio in enumerate(ratios) if i != 3)


def test_linear_maps_within_taps_change_nothing() -> None:
    taps = tanh_chain(2, n=500)
    generator = np.random.default_rng(7)
    mapped = [tap @ generator.normal(size=(8, 8)) + 1.0 for tap in taps]
    before, after = (tap_predictability(read(one), WIDTHS) for one in (taps, mapped))
    for a, b in zip(before.per_tap, after.per_tap, strict=True):
        assert a.value == pytest.approx(b.value, abs=1e-8)


def test_nulls_are_those_of_independent_taps() -> None:
    """Uncorrected, a tap of 4 would read about 4 * 12 / 2n = 0.3."""
    generator = np.random.default_rng(5)
    found = [
        tap_predictability(Moments.of_rows(generator.normal(size=(80, 16))), [4] * 4)
        for _ in range(400)
    ]
    for items in ([one.per_tap[1] for one in found], [one.total_correlation for one in found]):
        values = np.array([item.value for item in items])
        sd = items[0].null_sd
        assert sd is not None
        assert values.mean() == pytest.approx(0.0, abs=4 * sd / 20)
        assert values.std(ddof=1) == pytest.approx(sd, rel=0.15)


def test_bands_cover_the_truth() -> None:
    """Gaussian taps of one shared factor; truth from the population covariance."""
    mixing = np.random.default_rng(3).normal(size=(9, 9))
    covariance = mixing @ mixing.T
    widths = [2, 3, 4]
    exact = tap_predictability(Moments(1e12, np.zeros(9), covariance * (1e12 - 1)), widths)
    # Capped by the ridge, in as many directions as all taps but the widest have columns.
    assert exact.total_correlation.ceiling == pytest.approx(0.5 * 5 * math.log(1e6))
    root = np.linalg.cholesky(covariance)
    generator = np.random.default_rng(4)
    hits = []
    for _ in range(300):
        x = generator.normal(size=(250, 9)) @ root.T
        found = tap_predictability(Moments.of_rows(x), widths)
        pairs = [
            (found.per_tap[0], exact.per_tap[0]),
            (found.total_correlation, exact.total_correlation),
        ]
        hits.append([a.band is not None and a.band[0] < b.value < a.band[1] for a, b in pairs])
    assert np.mean(hits, axis=0) == pytest.approx(0.95, abs=0.035)


@pytest.mark.parametrize("seed", range(8))
def test_shards_merge_to_the_pooled_reading(seed: int) -> None:
    x = np.concatenate(tanh_chain(seed, n=300), axis=1)
    generator = np.random.default_rng(seed)
    owner = generator.integers(0, 15, len(x))
    shards = [Moments.of_rows(x[owner == i]) for i in generator.permutation(16)]
    merged = tap_predictability(reduce(Moments.merge, shards, Moments.zero(48)), WIDTHS)
    pooled = tap_predictability(Moments.of_rows(x), WIDTHS)
    for a, b in zip(merged.per_tap, pooled.per_tap, strict=True):
        assert a.value == pytest.approx(b.value, abs=1e-9)


def test_replicas_of_one_tap_saturate_and_export_the_rank() -> None:
    tap = np.random.default_rng(0).normal(size=(4096, 8))
    found = tap_predictability(read([tap, tap]), [8, 8])
    for item in found.per_tap:
        assert item.value == pytest.approx(8 * 0.5 * math.log(1e6 / 2), rel=0.02)
        assert item.saturated
        assert item.parameters["rank"] == 8
    noisy = tap + 0.1 * np.random.default_rng(1).normal(size=tap.shape)
    assert not tap_predictability(read([tap, noisy]), [8, 8]).per_tap[0].saturated


def test_degenerate_taps() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 9))
    x[:, 3:6] = 0.1
    found = tap_predictability(Moments.of_rows(x), [3, 3, 0, 3])
    assert [e.undefined for e in found.per_tap] == ["", "constant", "constant", ""]
    assert found.total_correlation.defined
    assert found.per_tap[0].ceiling == pytest.approx(1.5 * math.log(200))
    alone = tap_predictability(Moments.of_rows(x), [9])
    assert alone.per_tap[0].undefined == alone.total_correlation.undefined == "constant"
    few = tap_predictability(Moments.of_rows(x[:10]), [3, 6])
    assert [e.undefined for e in (*few.per_tap, few.total_correlation)] == ["n"] * 3
    x[0, 0] = np.inf
    assert tap_predictability(Moments.of_rows(x), [3, 6]).per_tap[1].undefined == "nan"
    none = tap_predictability(Moments.zero(0), [])
    assert none.per_tap == []
    assert none.total_correlation.undefined == "n"


def test_wrong_settings_are_refused() -> None:
    for widths in ([3, 3], [-1, 6]):
        with pytest.raises(ValueError, match="widths: expected to sum to 5"):
            tap_predictability(Moments.zero(5), widths)
    with pytest.raises(ValueError, match="ridge"):
        tap_predictability(Moments.zero(5), [5], ridge=0.0)


def test_integrity_is_the_ratio_to_the_median_of_the_last_twenty() -> None:
    found = join_integrity(3.0, [100.0] * 50 + [5.0, 7.0] + [6.0] * 18)
    assert (found.value, found.n, found.unit) == (0.5, 20, "ratio")
    assert (found.null_mean, found.null_sd) == (1.0, 0.0)
    spread = join_integrity(6.0, [5.0, 5.5, 6.0, 6.5, 7.0])
    assert spread.value == 1.0
    assert spread.null_sd == pytest.approx(1.4826 * 0.5 / 6.0)
    assert join_integrity(-0.01, [6.0] * 5).value == 0.0


@pytest.mark.parametrize(
    ("value", "history", "reason"),
    [
        (1.0, [], "history"),
        (1.0, [6.0] * 4, "history"),
        (1.0, [6.0] * 4 + [math.nan] * 9, "history"),
        (1.0, [-0.001] * 9, "history"),
        (1.0, [0.0] * 9, "history"),
        (math.nan, [6.0] * 9, "nan"),
        (math.inf, [], "nan"),
        (1e308, [1e-8] * 9, "nan"),
    ],
)
def test_integrity_is_undefined(value: float, history: list[float], reason: str) -> None:
    assert join_integrity(value, history).undefined == reason
