"""The trained estimator on data of known information that its training did not have."""

from __future__ import annotations

import math
import statistics
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from infoplane.estimators import Estimate
from infoplane.estimators.mutual_information.supervised.estimate import (
    VERSION,
    supervised_mi,
    windows,
)

sys.path.insert(0, str(Path(__file__).parents[4] / "scripts"))

from supervised_mi.datasets import draw
from supervised_mi.families import TRAINED


def mean(estimates: list[Estimate]) -> float:
    return statistics.fmean(e.value for e in estimates)


@pytest.mark.parametrize("d", [1, 4, 32])
def test_independent_data_share_nothing(data: SimpleNamespace, d: int) -> None:
    x, y = data.independent(6, 512, d, seed=50 + d)
    estimates = supervised_mi(x, y, seeds=range(6))
    assert mean(estimates) <= 0.05
    assert all(e.band is not None and e.band[0] <= 0.02 for e in estimates)


@pytest.mark.parametrize(
    ("d", "directions", "nats", "tolerance"),
    [(1, 1, 0.5, 0.1), (1, 1, 2.0, 0.2), (4, 4, 1.0, 0.2), (16, 2, 1.0, 0.25)],
)
def test_normal_truths(
    data: SimpleNamespace, d: int, directions: int, nats: float, tolerance: float
) -> None:
    x, y = data.gaussian_pairs(4, 1024, d, seed=60 + d, nats=nats, directions=directions)
    estimates = supervised_mi(x, data.rotated(y, 7), seeds=range(4))
    assert mean(estimates) == pytest.approx(nats, abs=tolerance)


def test_a_wide_pair_is_right_unless_it_is_rotated(data: SimpleNamespace) -> None:
    """The known weakness of docs/estimators.md: one direction spread over all columns of y reads high."""
    x, y = data.gaussian_pairs(4, 1024, 32, seed=92, nats=2.0, directions=1)
    assert mean(supervised_mi(x, y, seeds=range(4))) == pytest.approx(2.0, abs=0.3)
    turned = supervised_mi(x, data.rotated(y, 7), seeds=range(4))
    assert 2.0 < mean(turned) < 2.8


def test_bands_cover_as_often_as_they_say() -> None:
    inside, error = [], []
    for seed in range(400_000, 400_016):
        block = draw(seed, TRAINED)
        for truth, e in zip(
            block.truth, supervised_mi(block.x, block.y, seeds=[0] * 8), strict=True
        ):
            assert e.band is not None
            inside.append(e.band[0] - 0.005 <= truth <= e.band[1] + 0.005)
            error.append(abs(e.value - truth))
    # 128 sets: 90 % +- 2.6 % standard error.
    assert 0.80 <= statistics.fmean(inside) <= 0.98
    assert statistics.fmean(error) <= 0.25


@pytest.mark.parametrize("n", [200, 1100])
def test_order_of_rows_columns_and_sides_and_increasing_maps_do_not_matter(
    data: SimpleNamespace, n: int
) -> None:
    x, y = data.gaussian_pairs(1, n, 5, seed=2, nats=1.0, directions=2)
    y = y[..., :3]
    (plain,) = supervised_mi(x, y, seeds=[1])
    shuffle = torch.randperm(n, generator=torch.Generator().manual_seed(4))
    assert supervised_mi(x[:, shuffle], y[:, shuffle], seeds=[1]) == [plain]
    assert supervised_mi(torch.exp(x), 5.0 * y**3, seeds=[1]) == [plain]
    for other in (
        supervised_mi(x[..., [4, 2, 0, 1, 3]], y.flip(-1), seeds=[1]),
        supervised_mi(y, x, seeds=[1]),
    ):
        assert other[0].value == pytest.approx(plain.value, abs=1e-4)
        assert other[0].band == pytest.approx(plain.band, abs=1e-4)


def test_same_seed_same_bits_and_batch_equals_single(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(3, 600, 4, seed=5, nats=1.0, directions=2)
    batch = supervised_mi(x, y, seeds=[7, 8, 9])
    assert supervised_mi(x, y, seeds=[7, 8, 9]) == batch
    for i in range(3):
        (single,) = supervised_mi(x[i : i + 1], y[i : i + 1], seeds=[7 + i])
        assert single.value == pytest.approx(batch[i].value, abs=1e-6)
    assert supervised_mi(x[:1], y[:1], seeds=[8])[0].value != batch[0].value


def test_estimates_are_ordered_and_complete(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(4, 2100, 2, seed=6, nats=0.5, directions=1)
    for e in supervised_mi(x, y, seeds=range(4), subsets=2):
        assert e.band is not None
        assert e.ceiling is not None
        assert 0.0 <= e.band[0] <= e.value <= e.band[1]
        assert (e.n, e.unit, e.estimator, e.version) == (1024, "nats", "supervised", VERSION)
        assert e.parameters == {"dx": 2, "dy": 2, "rows": 512, "windows": 2}
        assert not e.saturated


def test_near_the_largest_truth_it_says_so(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(1, 512, 1, seed=6, nats=3.8, directions=1)
    (e,) = supervised_mi(x, y, seeds=[0])
    assert e.saturated
    assert e.ceiling is not None
    assert e.value > 0.8 * e.ceiling


def test_windows_share_rows_evenly() -> None:
    assert [windows(n, 4) for n in (64, 512, 513, 1024, 3000)] == [
        (64, 1), (512, 1), (256, 2), (512, 2), (512, 4)
    ]  # fmt: skip
    assert windows(1024, 1) == (512, 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [("nan", "nan"), ("inf", "nan"), ("constant", "constant"), ("few", "shape"), ("wide", "shape"),
     ("none", "shape")],
)  # fmt: skip
def test_degenerate_items_are_undefined_and_leave_others_alone(
    data: SimpleNamespace, change: str, reason: str
) -> None:
    x, y = data.gaussian_pairs(2, 100, 3, seed=5, nats=1.0, directions=1)
    healthy = supervised_mi(x[1:], y[1:], seeds=[2])[0]
    if change in ("nan", "inf"):
        x[0, 3, 1] = math.nan if change == "nan" else math.inf
    elif change == "constant":
        y[0] = 2.0
    elif change == "few":
        x, y = x[:, :63], y[:, :63]
    elif change == "wide":
        y = torch.randn(2, 100, 33, generator=torch.Generator().manual_seed(0))
    else:
        x = x[..., :0]
    first, second = supervised_mi(x, y, seeds=[1, 2])
    assert first.undefined == reason
    assert math.isnan(first.value)
    if reason == "shape":
        assert second.undefined == "shape"
    else:
        assert second.value == pytest.approx(healthy.value, abs=1e-6)


def test_repeated_rows_and_equal_sides_are_defined(data: SimpleNamespace) -> None:
    x, _ = data.independent(1, 200, 3, seed=1)
    for left, right in ((x, x), (x.round(), x.round()), (x[:, :8].repeat(1, 25, 1), x)):
        (e,) = supervised_mi(left, right, seeds=[0])
        assert e.defined
        assert math.isfinite(e.value)


def test_no_items() -> None:
    assert supervised_mi(torch.zeros(0, 100, 2), torch.zeros(0, 100, 2), seeds=[]) == []


def test_wrong_arguments_are_named(data: SimpleNamespace) -> None:
    x, y = data.independent(2, 100, 3, seed=1)
    with pytest.raises(ValueError, match="x, y"):
        supervised_mi(x, y[:, :50], seeds=[0, 1])
    with pytest.raises(ValueError, match="seeds"):
        supervised_mi(x, y, seeds=[0])
    with pytest.raises(ValueError, match="subsets"):
        supervised_mi(x, y, seeds=[0, 1], subsets=0)
