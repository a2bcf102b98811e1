"""Cauchy-Schwarz QMI: closed forms, independence, invariances, degenerate input."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import norm, qmc
from torch import Tensor

from infoplane.estimators.mutual_information import blocks
from infoplane.estimators.mutual_information.cauchy_schwarz import (
    CauchySchwarz,
    cs_qmi,
    cs_qmi_of_fourier,
)
from infoplane.estimators.mutual_information.gram_sums import PairSums
from infoplane.estimators.state.fourier import FourierFeatures, FourierMoments


def closed_form(r: float, sigma: float) -> float:
    """Return the QMI in bits of a standard bivariate normal of correlation ``r``."""
    s2 = sigma**2
    both = ((1 + 2 / s2) ** 2 - (2 * r / s2) ** 2) ** -0.5
    apart = 1 / (1 + 2 / s2)
    mixed = s2 / (s2 + 1) * ((1 + 1 / (s2 + 1)) ** 2 - (r / (s2 + 1)) ** 2) ** -0.5
    return math.log2(both) + math.log2(apart) - 2 * math.log2(mixed)


def even_normal(r: float, seeds: int) -> tuple[Tensor, Tensor]:
    """Return 2048 correlated pairs per seed from an evenly spread (Sobol) sample.

    Plain samples of that size move the value by 0.01, twice the tolerance.
    """
    z = np.stack([norm.ppf(qmc.Sobol(2, seed=s).random(2048)) for s in range(seeds)])
    x, noise = torch.from_numpy(z[..., :1]), torch.from_numpy(z[..., 1:])
    return x, r * x + math.sqrt(1 - r * r) * noise


@pytest.mark.parametrize(
    ("r", "sigma", "truth"),
    [(0.5, 1.0, 0.0443), (0.9, 1.0, 0.1859), (0.99, 1.0, 0.2463), (0.9, 0.5, 0.4854)],
)
@pytest.mark.parametrize("statistic", ["U", "V"])
def test_closed_form_of_a_normal_pair(r: float, sigma: float, truth: float, statistic: str) -> None:
    assert closed_form(r, sigma) == pytest.approx(truth, abs=5e-5)
    x, y = even_normal(r, 2)
    found = cs_qmi(
        x,
        y,
        bandwidths=[(sigma, sigma)] * 2,
        seeds=[0, 1],
        permutations=0,
        statistic=statistic,  # type: ignore[arg-type]
    )
    assert [one.bits.value for one in found] == pytest.approx([truth] * 2, abs=0.005)


def test_equals_a_readable_reference(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(1, 40, 2, seed=3, nats=1.0, directions=2)
    k, l = (torch.exp(-torch.cdist(z[0], z[0]).square() / 2) for z in (x, y))  # noqa: E741
    v = (k * l).mean().log() + k.mean().log() + l.mean().log()
    v = v - 2 * (k.mean(1) * l.mean(1)).mean().log()
    index = np.array([p for p in np.ndindex(12, 12, 12, 12) if len(set(p)) == 4]).T
    a, b, c, d = index
    small_k, small_l = k[:12, :12].numpy(), l[:12, :12].numpy()
    u = np.log((small_k[a, b] * small_l[a, b]).mean()) + np.log(
        (small_k[a, b] * small_l[c, d]).mean()
    )
    u -= 2 * np.log((small_k[a, b] * small_l[a, c]).mean())
    found = cs_qmi(x, y, bandwidths=[(1.0, 1.0)], seeds=[0], statistic="V")[0].bits.value
    assert found * math.log(2) == pytest.approx(float(v), abs=1e-12)
    off_k, off_l = small_k - np.eye(12), small_l - np.eye(12)
    parts = (off_k * off_l).sum(), (off_k.sum(1) * off_l.sum(1)).sum(), off_k.sum(), off_l.sum()
    sums = PairSums(*(torch.tensor(float(p), dtype=torch.float64) for p in (12, *parts)))
    assert float(sums.information("U")) == pytest.approx(float(u), abs=1e-12)


@pytest.mark.parametrize("d", [2, 16, 64])
def test_independent_sides_read_zero_at_the_median_distance(data: SimpleNamespace, d: int) -> None:
    x, y = data.independent(4, 600, d, seed=d)
    found = cs_qmi(x, y, bandwidths=None, seeds=range(4))
    assert [one.bits.value for one in found] == pytest.approx([0.0] * 4, abs=2e-3 / d)
    assert [one.ratio.value for one in found] == pytest.approx([0.0] * 4, abs=0.01)


def test_narrow_kernels_explode_as_v_and_are_flagged(data: SimpleNamespace) -> None:
    x, y = data.independent(1, 1000, 16, seed=1)
    settings = {"bandwidths": [(1.0, 1.0)], "seeds": [0]}
    narrow_v, narrow_u = (cs_qmi(x, y, statistic=s, **settings)[0] for s in ("V", "U"))
    assert narrow_v.bits.value > 8.5
    assert abs(narrow_u.bits.value) < 1.0
    assert narrow_v.bits.saturated
    assert narrow_u.ratio.saturated
    wide_v, wide_u = (
        cs_qmi(x, y, statistic=s, bandwidths=[(4.0, 4.0)], seeds=[0])[0].bits for s in ("V", "U")
    )
    assert wide_v.value == pytest.approx(0.0036, abs=5e-4)
    assert wide_u.value == pytest.approx(0.0, abs=2e-4)
    assert not wide_u.saturated


def test_copy_reads_one_and_dependence_lies_between(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(1, 500, 8, seed=2, nats=2.0, directions=8)
    (copy,) = cs_qmi(x, data.rotated(x, 1), bandwidths=None, seeds=[0])
    assert copy.ratio.value == pytest.approx(1.0, abs=1e-9)
    assert copy.bits.value == pytest.approx(copy.bits.ceiling, abs=1e-9)
    (between,) = cs_qmi(x, y, bandwidths=None, seeds=[0])
    assert 0.1 < between.ratio.value < 0.9
    assert between.ratio.value == pytest.approx(
        between.bits.value / between.bits.ceiling, abs=1e-12
    )


def test_scale_and_shift_change_nothing_at_the_median(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(1, 300, 4, seed=5, nats=1.0, directions=4)
    first, second = (
        cs_qmi(*sides, bandwidths=None, seeds=[0])[0] for sides in ((x, y), (100 * x + 7, y / 50))
    )
    assert second.bits.value == pytest.approx(first.bits.value, abs=1e-10)
    assert second.bits.parameters["sigma_x"] == pytest.approx(
        100 * float(first.bits.parameters["sigma_x"])
    )


def test_band_covers_the_spread_over_samples(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(48, 256, 2, seed=8, nats=0.5, directions=2)
    found = cs_qmi(x, y, bandwidths=[(1.5, 1.5)] * 48, seeds=range(48), permutations=0)
    for name in ("bits", "ratio"):
        estimates = [getattr(one, name) for one in found]
        half = np.mean([e.band[1] - e.value for e in estimates])
        assert half / 1.96 == pytest.approx(np.std([e.value for e in estimates]), rel=0.4)


def test_null_is_that_of_pairs_broken_up(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(2, 300, 3, seed=9, nats=1.0, directions=3)
    found = cs_qmi(x, y, bandwidths=None, seeds=[4, 5], permutations=6)
    for one in found:
        assert one.bits.null_sd is not None
        assert one.bits.null_mean == pytest.approx(0.0, abs=4 * one.bits.null_sd / math.sqrt(6))
        assert one.bits.value > 20 * one.bits.null_sd
    bare = cs_qmi(x, y, bandwidths=None, seeds=[4, 5], permutations=0)[0].bits
    assert bare.null_mean is None
    assert bare.value == pytest.approx(found[0].bits.value, abs=1e-12)


@pytest.mark.parametrize("d", [1, 8, 64])
def test_fourier_features_come_close_to_exact(data: SimpleNamespace, d: int) -> None:
    x, y = data.gaussian_pairs(1, 800, d, seed=10, nats=1.0, directions=d)
    (exact,) = cs_qmi(x, y, bandwidths=None, seeds=[0])
    (found,) = cs_qmi(x, y, bandwidths=None, seeds=[0], method="fourier", features=512)
    assert found.bits.value == pytest.approx(exact.bits.value, rel=0.1)
    assert found.ratio.value == pytest.approx(exact.ratio.value, abs=0.03)
    assert found.bits.null_mean == pytest.approx(0.0, abs=0.002)


def test_merged_moments_equal_pooled_rows(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(1, 320, 5, seed=11, nats=1.0, directions=5)
    (pooled,) = cs_qmi(
        x, y, bandwidths=[(3.0, 2.5)], seeds=[0], method="fourier", features=64, permutations=0
    )
    maps = FourierFeatures(5, 5, 3.0, 2.5, 64)
    merged = FourierMoments.zero(maps)
    for part in range(8):
        rows = slice(40 * part, 40 * part + 40)
        merged += FourierMoments.of_rows(x[0, rows].numpy(), y[0, rows].numpy(), maps=maps)
    found = cs_qmi_of_fourier(merged)
    assert found.bits.value == pytest.approx(pooled.bits.value, abs=1e-10)
    assert found.ratio.value == pytest.approx(pooled.ratio.value, abs=1e-10)
    assert found.bits.parameters == pooled.bits.parameters
    assert cs_qmi_of_fourier(FourierMoments.zero(maps)).bits.undefined == "n"


def test_batch_equals_items_and_blocks_change_nothing(
    data: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = data.gaussian_pairs(3, 101, 3, seed=12, nats=1.0, directions=2)
    whole = cs_qmi(x, y, bandwidths=None, seeds=[1, 2, 3])
    single = [
        cs_qmi(x[i : i + 1], y[i : i + 1], bandwidths=None, seeds=[i + 1])[0] for i in range(3)
    ]
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", 5000)
    small = cs_qmi(x, y, bandwidths=None, seeds=[1, 2, 3])
    for found in (single, small):
        for one, other in zip(found, whole, strict=True):
            assert numbers(one) == pytest.approx(numbers(other), abs=1e-10)


def numbers(found: CauchySchwarz) -> list[float | None]:
    """Return all numbers of both readings."""
    out: list[float | None] = []
    for one in (found.bits, found.ratio):
        out += [one.value, one.null_mean, one.ceiling, *(one.band or ())]
    return out


def test_degenerate_items_say_why_and_leave_the_others_alone(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(6, 64, 2, seed=13, nats=1.0, directions=2)
    sound = cs_qmi(x[:1], y[:1], bandwidths=None, seeds=[0])[0].bits.value
    x[1, 3, 0], y[2, 0, 1] = math.nan, math.inf
    x[3] = 2.0
    y[4, :60] = 1.0
    x[5, :, 1] = 0.0
    for method in ("exact", "fourier"):
        found = cs_qmi(
            x,
            y,
            bandwidths=None,
            seeds=range(6),
            method=method,
            features=64,  # type: ignore[arg-type]
        )
        reasons = [one.bits.undefined for one in found]
        assert reasons == ["", "nan", "nan", "constant", "duplicates", ""]
        assert all(math.isnan(one.ratio.value) for one in found[1:5])
    assert cs_qmi(x, y, bandwidths=None, seeds=range(6))[0].bits.value == pytest.approx(sound)
    far = 1e6 * torch.arange(64.0).view(1, 64, 1)
    assert cs_qmi(far, far, bandwidths=[(1.0, 1.0)], seeds=[0])[0].bits.undefined == "bandwidth"
    few = cs_qmi(x[:, :31], y[:, :31], bandwidths=None, seeds=range(6))
    assert {one.bits.undefined for one in few} == {"n"}
    assert cs_qmi(x[:0], y[:0], bandwidths=None, seeds=[]) == []


def test_wrong_arguments(data: SimpleNamespace) -> None:
    x, y = data.independent(2, 40, 2, seed=1)
    with pytest.raises(ValueError, match="seeds"):
        cs_qmi(x, y, bandwidths=None, seeds=[0])
    with pytest.raises(ValueError, match="expected \\(t, n, dx\\)"):
        cs_qmi(x, y[:, :30], bandwidths=None, seeds=[0, 1])
    with pytest.raises(ValueError, match="bandwidths: expected 2 pairs"):
        cs_qmi(x, y, bandwidths=[(1.0, 0.0)] * 2, seeds=[0, 1])
    with pytest.raises(ValueError, match="method"):
        cs_qmi(x, y, bandwidths=None, seeds=[0, 1], method="other")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="features"):
        cs_qmi(x, y, bandwidths=None, seeds=[0, 1], method="fourier", features=6)
