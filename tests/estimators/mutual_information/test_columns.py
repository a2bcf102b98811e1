"""KSG of single columns: equal to all pairs, whatever the columns look like."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.feature_selection import mutual_info_regression
from torch import Tensor

from infoplane.estimators import ksg
from infoplane.estimators.mutual_information.columns import column_terms, ksg_scalar
from infoplane.estimators.mutual_information.ksg import ksg_terms


def columns(kind: str, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return two columns ``(2, n)``."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, n, generator=generator, dtype=torch.float64)
    y = torch.randn(2, n, generator=generator, dtype=torch.float64)
    if kind == "dependent":
        y = x + 0.01 * y
    elif kind == "heavy":
        x, y = x / y.flip(-1), x.abs() / y
    elif kind == "clusters":
        x, y = 9.0 * x.round() + 1e-3 * x, 9.0 * y.round() + 1e-3 * y
    elif kind == "far":
        x[:, :3] = 1e6 + x[:, :3]
    return x, y


def all_pairs(x: Tensor, y: Tensor, k: int) -> Tensor:
    """Return the terms by plain comparison of all differences."""
    n = x.shape[-1]
    dx = (x.unsqueeze(-1) - x.unsqueeze(-2)).abs()
    dy = (y.unsqueeze(-1) - y.unsqueeze(-2)).abs()
    for one in (dx, dy):
        one.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    radius = torch.maximum(dx, dy).sort(-1).values[..., k - 1 : k]
    counts = [(one < radius).sum(-1) + 1.0 for one in (dx, dy)]
    psi = [torch.digamma(count.double()) for count in counts]
    both = torch.digamma(torch.tensor([k, n], dtype=torch.float64)).sum()
    terms: Tensor = both - psi[0] - psi[1]
    return terms


@pytest.mark.parametrize("kind", ["independent", "dependent", "heavy", "clusters", "far"])
@pytest.mark.parametrize(("n", "k"), [(5, 3), (60, 1), (500, 3), (1200, 6)])
def test_equals_all_pairs(kind: str, n: int, k: int) -> None:
    x, y = columns(kind, n, seed=n)
    expected = all_pairs(x, y, k)
    torch.testing.assert_close(column_terms(x, y, k=k), expected, rtol=0, atol=1e-9)
    # The way of several columns gives the same: one column of zeros more changes no distance.
    wide = [torch.stack([one, 0 * one], -1) for one in (x, y)]
    if kind != "far":
        pairs = ksg_terms(wide[0], wide[1].unsqueeze(1), k=k)[:, 0]
        torch.testing.assert_close(pairs, expected, rtol=0, atol=1e-9)


def test_ties_are_counted_exactly() -> None:
    """On whole numbers nearly all distances tie; rounding must not decide any of them."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(-8, 9, (3, 400), generator=generator).double()
    y = torch.randint(-3, 4, (3, 400), generator=generator).double()
    y[2] = torch.randn(400, generator=generator, dtype=torch.float64)
    for a, b in ((x, y), (y, x), (0 * x, y), (0 * x, 0 * y)):
        torch.testing.assert_close(column_terms(a, b, k=3), all_pairs(a, b, 3), rtol=0, atol=1e-9)


def test_many_columns_equal_one_by_one(data: SimpleNamespace) -> None:
    x, y = columns("independent", 3000, seed=4)
    x, y = x.repeat(6, 1), y.repeat(6, 1).flip(0)
    whole = column_terms(x, y, k=3)
    for i in range(0, 12, 5):
        alone = column_terms(x[i : i + 1], y[i : i + 1], k=3)
        torch.testing.assert_close(whole[i : i + 1], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("nats", [0.0, 0.5, 1.0, 2.0])
def test_gaussian_columns(data: SimpleNamespace, nats: float) -> None:
    x, y = data.gaussian_pairs(6, 2048, 1, seed=4, nats=nats, directions=1)
    estimates = ksg_scalar(x[..., 0], y[..., 0], seeds=range(6), permutations=2)
    assert sum(e.value for e in estimates) / 6 == pytest.approx(nats, abs=0.05)
    assert all(abs(e.null_mean or 0.0) < 0.08 and e.null_sd is not None for e in estimates)
    assert all(e.band is not None and e.band[0] < e.value < e.band[1] for e in estimates)


def test_scikit_learn_with_its_own_noise(data: SimpleNamespace) -> None:
    """Its scaling and noise are replayed; what is left is the estimator."""
    n, columns_ = 700, 5
    generator = np.random.default_rng(3)
    y = generator.normal(size=n)
    x = np.linspace(0, 2, columns_) * y[:, None] + generator.normal(size=(n, columns_))
    oracle = mutual_info_regression(x, y, n_neighbors=3, random_state=7)
    state = np.random.RandomState(7)
    noisy = x / x.std(0)
    noisy = noisy + 1e-10 * np.maximum(1, np.abs(noisy).mean(0)) * state.standard_normal(x.shape)
    other = y / y.std()
    other = other + 1e-10 * max(1.0, np.abs(other).mean()) * state.standard_normal(n)
    a, b = torch.from_numpy(noisy.T.copy()), torch.from_numpy(other).expand(columns_, n)
    ours = ksg(a.unsqueeze(-1), b.unsqueeze(-1), k=3).clamp(min=0)
    assert ours.tolist() == pytest.approx(oracle.tolist(), abs=1e-9)
    # With noise of our own, a row in thousands may fall on the other side of a ball's edge.
    scalar = [
        e.value
        for e in ksg_scalar(torch.from_numpy(x.T.copy()), torch.from_numpy(y), seeds=range(5))
    ]
    assert [max(0.0, v) for v in scalar] == pytest.approx(oracle.tolist(), abs=1e-4)


def test_one_scalar_serves_all_columns_and_batch_equals_single(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(3, 300, 1, seed=5, nats=1.0, directions=1)
    x, y = x[..., 0], y[0, :, 0]
    batch = ksg_scalar(x, y, seeds=[7, 8, 9], permutations=2)
    assert batch == ksg_scalar(x, y, seeds=[7, 8, 9], permutations=2)
    spread = ksg_scalar(x, y.expand(3, 300), seeds=[7, 8, 9], permutations=2)
    assert [e.value for e in spread] == [e.value for e in batch]
    for i, whole in enumerate(batch):
        (alone,) = ksg_scalar(x[i : i + 1], y, seeds=[7 + i], permutations=2)
        assert alone.value == pytest.approx(whole.value, abs=1e-9)
        assert alone.null_mean == pytest.approx(whole.null_mean, abs=1e-9)


def test_repeated_values_are_told_apart_by_noise_alone() -> None:
    """Half of a column at 0, as after a ReLU, says nothing of an independent scalar."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(6, 1024, generator=generator).clamp(min=0)
    y = torch.randn(1024, generator=generator)
    estimates = ksg_scalar(x, y, seeds=range(6))
    assert abs(sum(e.value for e in estimates) / 6) < 0.05
    sk = mutual_info_regression(x.T.numpy(), y.numpy(), n_neighbors=3, random_state=0)
    assert float(sk.mean()) < 0.05


def test_coarse_and_fine_comparisons_agree(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(4, 2048, 1, seed=4, nats=0.5, directions=1)
    fine = column_terms(x[..., 0], y[..., 0], k=3)
    coarse = column_terms(x[..., 0], y[..., 0], k=3, fine=False)
    torch.testing.assert_close(coarse.mean(-1), fine.mean(-1), rtol=0, atol=1e-4)


def test_degenerate_items(data: SimpleNamespace) -> None:
    x, y = data.independent(5, 60, 1, seed=1)
    x, y = x[..., 0], y[..., 0]
    x[0, 3], x[1], y[2], x[3, :30] = float("nan"), 1.0, 2.0, 7.0
    assert [e.undefined for e in ksg_scalar(x, y, seeds=range(5))] == [
        "nan", "constant", "constant", "", "",
    ]  # fmt: skip
    huge = ksg_scalar(1e300 * x, y, seeds=range(5))
    assert math.isfinite(huge[4].value)
    assert ksg_scalar(x[:, :4], y[:, :4], seeds=range(5))[4].undefined == "n"
    assert ksg_scalar(x[:, :0], y[:, :0], seeds=range(5))[4].undefined == "n"
    assert ksg_scalar(x[:0], y[0], seeds=[]) == []
    with pytest.raises(ValueError, match="x, y, seeds"):
        ksg_scalar(x, y[0, :9], seeds=range(5))
    with pytest.raises(ValueError, match="x, y, seeds"):
        ksg_scalar(x, y, seeds=[1])
    with pytest.raises(ValueError, match="k:"):
        ksg_scalar(x, y, seeds=range(5), k=0)
