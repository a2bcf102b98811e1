"""Diffusion spectral entropy: closed forms, published values, methods, degenerate input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from infoplane.estimators.geometry.diffusion_entropy import diffusion_entropy
from infoplane.estimators.geometry.diffusion_kernel import median_distance


def groups(m: int, n: int = 256, d: int = 5) -> Tensor:
    """Return m groups of equal size of coincident rows, far apart, ``(1, n, d)``."""
    centres = torch.arange(m, dtype=torch.float64)[:, None] * 100.0 + torch.arange(float(d))
    return centres[torch.arange(n) % m].unsqueeze(0)


def normal(t: int, n: int, d: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(t, n, d, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kernel", ["walk", "anisotropic"])
@pytest.mark.parametrize("m", [1, 2, 4, 8])
def test_equal_groups_give_the_logarithm_of_their_number(m: int, kernel: str) -> None:
    (found,) = diffusion_entropy(groups(m), bandwidths=[1.0], kernel=kernel, seeds=[0])
    assert found.value == pytest.approx(math.log2(m), abs=1e-11)
    assert not found.saturated


def test_far_rows_give_the_ceiling() -> None:
    x = 1000.0 * torch.eye(256, dtype=torch.float64)[None]
    (found,) = diffusion_entropy(x, bandwidths=[1.0], seeds=[0])
    assert found.value == pytest.approx(8.0, abs=1e-11)
    assert found.ceiling == 8.0
    assert found.saturated
    assert found.band is None


@pytest.mark.parametrize(
    ("s", "power", "bits"),
    [(10.0, 1, 2.308107), (4.0, 1, 7.807159), (0.5, 1, 9.965784), (10.0, 2, 0.004915)],
)
def test_values_of_the_reference_package(s: float, power: int, bits: float) -> None:
    x = torch.from_numpy(np.random.RandomState(0).uniform(0, 1, (1000, 256)))[None]
    (found,) = diffusion_entropy(x, bandwidths=[s], power=power, seeds=[0])
    assert found.value == pytest.approx(bits, abs=1e-6)
    (single,) = diffusion_entropy(x.float(), bandwidths=[s], power=power, seeds=[0])
    assert single.value == pytest.approx(bits, abs=1e-3)
    if power == 1:
        (fast,) = diffusion_entropy(x, bandwidths=[s], method="lanczos", seeds=[0])
        assert fast.value == pytest.approx(bits, abs=0.02)


def test_shift_rotation_and_common_scale_change_nothing() -> None:
    x = normal(1, 200, 8, 1)
    q = torch.linalg.qr(normal(1, 8, 8, 2)[0])[0]
    items = torch.cat([x, x + 30.0, x @ q, 5.0 * x])
    found = diffusion_entropy(items, bandwidths=[3.0, 3.0, 3.0, 15.0], seeds=range(4))
    assert [e.value for e in found] == pytest.approx([found[0].value] * 4, abs=1e-9)


def test_entropy_falls_with_the_bandwidth_and_with_the_power() -> None:
    x = normal(1, 300, 8, 3).repeat(5, 1, 1)
    values = [e.value for e in diffusion_entropy(x, bandwidths=[0.5, 1, 2, 4, 8], seeds=range(5))]
    assert values == sorted(values, reverse=True)
    powers = [
        diffusion_entropy(x[:1], bandwidths=[2], power=p, seeds=[0])[0].value for p in (1, 2, 4)
    ]
    assert powers == sorted(powers, reverse=True)


def test_own_median_is_the_default_and_hides_the_scale() -> None:
    x = torch.cat([normal(1, 150, 6, 4), 9.0 * normal(1, 150, 6, 4)])
    own = diffusion_entropy(x, bandwidths=None, seeds=[0, 1])
    given = diffusion_entropy(x, bandwidths=median_distance(x).tolist(), seeds=[0, 1])
    frozen = diffusion_entropy(x, bandwidths=[float(median_distance(x)[0])] * 2, seeds=[0, 1])
    assert [e.value for e in own] == [e.value for e in given]
    assert own[0].value == pytest.approx(own[1].value, abs=1e-9)
    assert frozen[1].value > frozen[0].value + 1.0
    assert [e.parameters["bandwidth_source"] for e in (own[0], given[0])] == ["window", "given"]
    assert own[1].parameters["bandwidth_over_median"] == 1.0
    assert frozen[1].parameters["bandwidth_over_median"] == pytest.approx(1 / 9)


def test_rows_are_the_first_ones_and_part_of_the_identity() -> None:
    x = normal(2, 120, 4, 5)
    found = diffusion_entropy(x, bandwidths=[2.0, 2.0], seeds=[0, 1], rows=70)
    assert found == diffusion_entropy(x[:, :70], bandwidths=[2.0, 2.0], seeds=[0, 1])
    assert found[0].n == found[0].parameters["rows"] == 70
    assert diffusion_entropy(x, bandwidths=None, seeds=[0, 1], rows=999)[0].n == 120


@pytest.mark.parametrize("method", ["exact", "lanczos"])
def test_batch_equals_single_items_and_repeats(method: str) -> None:
    x = normal(9, 260, 7, 6)
    options = {"method": method, "kernel": "anisotropic"}
    batch = diffusion_entropy(x, bandwidths=[2.0] * 9, seeds=range(9), **options)
    assert batch == diffusion_entropy(x, bandwidths=[2.0] * 9, seeds=range(9), **options)
    for i in range(9):
        (one,) = diffusion_entropy(x[i : i + 1], bandwidths=[2.0], seeds=[i], **options)
        assert one.value == pytest.approx(batch[i].value, abs=1e-10)


def test_auto_says_what_it_ran() -> None:
    x = normal(1, 4097, 2, 7)
    small, large = (
        diffusion_entropy(part, bandwidths=[1.0], seeds=[0])[0] for part in (x[:, :64], x)
    )
    assert small.parameters["method"] == "exact"
    assert large.parameters["method"] == "lanczos"
    assert large.parameters["probes"] == 16


def test_band_covers_the_spread_over_samples() -> None:
    x = normal(60, 256, 16, 8) * torch.arange(1, 17.0) ** -0.5
    found = diffusion_entropy(x, bandwidths=[float(median_distance(x)[0])] * 60, seeds=range(60))
    values = np.array([e.value for e in found])
    half = np.array([e.band[1] - e.value for e in found if e.band])
    assert half.size == 60
    (bare,) = diffusion_entropy(
        x[:1], bandwidths=[float(median_distance(x)[0])], seeds=[0], band=False
    )
    assert bare.band is None
    assert bare.value == found[0].value
    assert np.mean(np.abs(values - values.mean()) < half) >= 0.85
    assert np.sqrt(np.mean(half**2)) / 3.182 == pytest.approx(values.std(ddof=1), rel=0.5)


def test_degenerate_items() -> None:
    x = normal(6, 64, 3, 9)
    x[0, 3, 1], x[1, 0, 0] = torch.nan, torch.inf
    x[2], x[3, :60] = 4.0, 1.5
    x[4] *= 1e200
    own = diffusion_entropy(x, bandwidths=None, seeds=range(6))
    assert [e.undefined for e in own] == ["nan", "nan", "constant", "duplicates", "nan", ""]
    given = diffusion_entropy(x, bandwidths=[1.0, 1.0, 1.0, 1.0, 1.0, 0.0], seeds=range(6))
    assert [e.undefined for e in given] == ["nan", "nan", "", "", "nan", "bandwidth"]
    assert given[2].value == pytest.approx(0.0, abs=1e-11)
    assert "bandwidth_over_median" not in given[2].parameters
    for wrong in (-1.0, math.nan, math.inf, 1e-200):
        assert diffusion_entropy(x[5:], bandwidths=[wrong], seeds=[0])[0].undefined == "bandwidth"


def test_few_rows_no_items_and_no_columns() -> None:
    x = normal(1, 64, 3, 10)
    assert diffusion_entropy(x[:, :1], bandwidths=None, seeds=[0])[0].undefined == "n"
    assert diffusion_entropy(x[:, :0], bandwidths=None, seeds=[0])[0].undefined == "n"
    assert diffusion_entropy(x[:0], bandwidths=None, seeds=[]) == []
    assert diffusion_entropy(x[:0], bandwidths=[], seeds=[], method="lanczos") == []
    assert diffusion_entropy(x[:, :2], bandwidths=[1.0], seeds=[0])[0].band is None
    assert diffusion_entropy(x[..., :0], bandwidths=[1.0], seeds=[0])[0].value < 1e-11
    for method in ("exact", "lanczos"):
        (pair,) = diffusion_entropy(x[:, :2], bandwidths=[1e-3], seeds=[0], method=method)
        assert pair.value == pytest.approx(1.0, abs=1e-5)


def test_wrong_arguments_raise() -> None:
    x = normal(2, 8, 3, 11)
    for match, change in (
        ("seeds", {"seeds": [0]}),
        ("bandwidths", {"bandwidths": [1.0]}),
        ("kernel", {"kernel": "cosine"}),
        ("method", {"method": "chebyshev"}),
        ("power", {"power": 0}),
        ("power", {"power": 2, "method": "lanczos"}),
        ("rows", {"rows": 0}),
    ):
        with pytest.raises(ValueError, match=match):
            diffusion_entropy(x, **({"bandwidths": None, "seeds": [0, 1]} | change))
    with pytest.raises(ValueError, match="x: expected"):
        diffusion_entropy(x[0], bandwidths=None, seeds=[0] * 8)
