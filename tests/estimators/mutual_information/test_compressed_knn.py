"""Information of principal components, from weighted entropies."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.compressed_knn import (
    compressed_knn,
    compressed_knn_labels,
)


def mean(estimates: list[Estimate]) -> float:
    """Return the mean value."""
    return sum(e.value for e in estimates) / len(estimates)


@pytest.mark.parametrize("nats", [0.0, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_gaussian_pairs(data: SimpleNamespace, d: int, nats: float) -> None:
    x, y = data.gaussian_pairs(5, 1024, d, seed=3, nats=nats, directions=d)
    estimates = compressed_knn(x, y, seeds=range(5), components=d, permutations=2)
    assert mean(estimates) == pytest.approx(nats, abs=0.1)
    assert abs(sum(e.null_mean or 0.0 for e in estimates) / 5) < 0.1


def test_high_information_is_not_flattened(data: SimpleNamespace) -> None:
    """Truth 6 nats, n = 4096: published at n = 10,000, 1 to 3 columns: KSG 4.73, weighted 5.52."""
    x, y = data.gaussian_pairs(2, 4096, 2, seed=3, nats=6.0, directions=2)
    estimates = compressed_knn(x, y, seeds=range(2), permutations=0)
    assert mean(estimates) > 5.4
    assert all(e.saturated for e in estimates)


def test_components_carry_what_varies_most(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(2, 1024, 20, seed=3, nats=1.0, directions=1)
    x[..., 0], y[..., 0] = 10.0 * x[..., 0], 10.0 * y[..., 0]
    seen = compressed_knn(data.rotated(x, 1), data.rotated(y, 2), seeds=range(2), permutations=0)
    assert mean(seen) == pytest.approx(1.0, abs=0.15)
    assert all(0.75 < float(e.parameters["retained_x"]) < 1.0 for e in seen)
    x[..., 1:3] = 50.0 * x[..., 1:3]
    missed = compressed_knn(x, y, seeds=range(2), permutations=0)
    assert abs(mean(missed)) < 0.15


@pytest.mark.parametrize(("error", "tolerance"), [(0.0, 0.1), (0.3, 0.2), (0.9, 0.1)])
def test_noisy_channel_between_clusters(
    data: SimpleNamespace, error: float, tolerance: float
) -> None:
    case = data.noisy_channel(3, 2048, seed=7, error=error)
    labels = compressed_knn_labels(case.x, case.labels, seeds=range(3))
    assert mean(labels) == pytest.approx(case.truth, abs=tolerance)
    assert abs(sum(e.null_mean or 0.0 for e in labels) / 3) < 0.1
    pairs = compressed_knn(case.x, case.y, seeds=range(3), permutations=0)
    assert mean(pairs) == pytest.approx(case.truth, abs=tolerance)


def test_two_normal_classes(data: SimpleNamespace) -> None:
    """Classes at +-1.5 sd in one column: I = h(mixture) - h(normal), by quadrature."""
    x, _ = data.independent(4, 2048, 1, seed=2)
    labels = torch.randint(0, 2, (4, 2048), generator=torch.Generator().manual_seed(3))
    x = x + 3.0 * labels.unsqueeze(-1)
    grid = torch.linspace(-12, 15, 200001, dtype=torch.float64)
    density = 0.5 * sum(
        torch.exp(-0.5 * (grid - m) ** 2) / math.sqrt(2 * math.pi) for m in (0.0, 3.0)
    )
    entropy = -torch.trapezoid(density * density.clamp(min=1e-300).log(), grid)
    truth = float(entropy) - 0.5 * math.log(2 * math.pi * math.e)
    estimates = compressed_knn_labels(x, labels, seeds=range(4))
    assert mean(estimates) == pytest.approx(truth, abs=0.06)


def test_small_classes_are_left_out_and_said(data: SimpleNamespace) -> None:
    x, _ = data.independent(1, 400, 2, seed=2)
    labels = torch.arange(400).remainder(2).unsqueeze(0)
    labels[0, :5] = 77
    (estimate,) = compressed_knn_labels(x, labels, seeds=[1])
    assert estimate.defined
    assert estimate.parameters["kept_rows"] == pytest.approx(395 / 400)
    mostly_rare = torch.arange(400).unsqueeze(0) // 8
    assert compressed_knn_labels(x, mostly_rare, seeds=[1])[0].undefined == "n"
    one_left = torch.cat([torch.zeros(380), torch.arange(20) + 1]).long().unsqueeze(0)
    assert compressed_knn_labels(x, one_left, seeds=[1])[0].undefined == "classes"


def test_batch_equals_single_items(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(3, 300, 6, seed=5, nats=1.0, directions=2)
    labels = (y[..., 0] > 0).long() + 2 * (y[..., 1] > 0.5).long()
    for call, partner in ((compressed_knn, y), (compressed_knn_labels, labels)):
        batch = call(x, partner, seeds=[7, 8, 9], permutations=2)
        assert batch == call(x, partner, seeds=[7, 8, 9], permutations=2)
        for i, whole in enumerate(batch):
            (alone,) = call(x[i : i + 1], partner[i : i + 1], seeds=[7 + i], permutations=2)
            assert alone.value == pytest.approx(whole.value, abs=1e-6)
            assert alone.null_mean == pytest.approx(whole.null_mean, abs=1e-6)
            assert alone.parameters["components"] == whole.parameters["components"]


def test_degenerate_items(data: SimpleNamespace) -> None:
    x, y = data.independent(6, 100, 4, seed=1)
    x[0, 3, 1], x[1], y[2] = float("inf"), 1.0, x[2]
    x[3, :50], x[4, :, 1:] = x[3, 50:], 0.0
    labels = torch.arange(100).remainder(2).expand(6, 100).clone()
    labels[5] = 3
    assert [e.undefined for e in compressed_knn(x, y, seeds=range(6))] == [
        "nan", "constant", "singular", "duplicates", "singular", "",
    ]  # fmt: skip
    assert [e.undefined for e in compressed_knn_labels(x, labels, seeds=range(6))] == [
        "nan", "constant", "", "duplicates", "singular", "classes",
    ]  # fmt: skip
    for call, partner in ((compressed_knn, y), (compressed_knn_labels, labels)):
        assert call(x[:, :20], partner[:, :20], seeds=range(6))[2].undefined == "n"
        assert call(x[:, :0], partner[:, :0], seeds=range(6))[2].undefined == "n"
        assert call(x[..., :0], partner, seeds=range(6))[2].undefined == "d"
        assert call(x[:0], partner[:0], seeds=[]) == []
        with pytest.raises(ValueError, match="seeds"):
            call(x, partner, seeds=[1])
        with pytest.raises(ValueError, match="x, y"):
            call(x, partner[:, :9], seeds=range(6))
        with pytest.raises(ValueError, match="components"):
            call(x, partner, seeds=range(6), components=0)
    assert compressed_knn(x, y, seeds=range(6), components=4)[5].undefined == "d"
    narrow = compressed_knn(x[5:, :, :2], y[5:, :, :1], seeds=[5], components=3)
    assert narrow[0].defined
