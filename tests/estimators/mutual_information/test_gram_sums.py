"""Sums over Gram matrices, and the same sums without one run of rows."""

from __future__ import annotations

import pytest
import torch

from infoplane.estimators.mutual_information.gram_sums import (
    RUNS,
    gram_sums,
    jackknife_error,
    median_distances,
    members,
    run_sums,
)


@pytest.mark.parametrize("n", [32, 50, 64])
def test_without_a_run_equals_the_sums_of_the_remaining_rows(n: int) -> None:
    x, y = torch.randn(2, 1, n, 3, generator=torch.Generator().manual_seed(n))
    sigma = torch.tensor([1.5], dtype=torch.float64)
    none = torch.zeros(1, 0, n, dtype=torch.long)
    whole = gram_sums(x, y, sigma, sigma, none)[0].pair()
    inside = members(n, x.device)
    for run in (0, 7, RUNS - 1):
        kept = inside[:, run] == 0
        k, l = (  # noqa: E741
            torch.exp(-torch.cdist(z, z).square() / (2 * 1.5**2)).fill_diagonal_(0)
            for z in (x[0, kept].double(), y[0, kept].double())
        )
        expected = [kept.sum(), (k * l).sum(), (k.sum(1) * l.sum(1)).sum(), k.sum(), l.sum()]
        found = [whole.n, whole.product, whole.rows, whole.left, whole.right]
        assert [float(f[0, 1 + run]) for f in found] == pytest.approx([float(e) for e in expected])


def test_orders_equal_sums_of_reordered_rows() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 2, 40, 3, generator=generator)
    orders = torch.stack(
        [torch.stack([torch.randperm(40, generator=generator) for _ in range(3)]) for _ in range(2)]
    )
    sigma = torch.tensor([1.0, 2.0], dtype=torch.float64)
    _, found = gram_sums(x, y, sigma, sigma, orders)
    for j in range(3):
        moved = y.gather(1, orders[:, j].unsqueeze(-1).expand_as(y))
        again = gram_sums(x, moved, sigma, sigma, orders)[0].pair()
        for name in ("n", "product", "rows", "left", "right"):
            torch.testing.assert_close(getattr(found, name)[:, j], getattr(again, name)[:, 0])


def test_runs_cover_every_column_once() -> None:
    row = torch.arange(50.0).view(1, 50)
    sums = run_sums(row)
    assert float(sums.sum()) == float(row.sum())
    torch.testing.assert_close(sums.double(), row.double() @ members(50, row.device))


def test_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = torch.randn(1, RUNS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    left_out = (values.sum(1, keepdim=True) - values) / (RUNS - 1)
    found = jackknife_error(torch.cat([values.mean(1, keepdim=True), left_out], 1))
    assert float(found) == pytest.approx(float(values.std() / RUNS**0.5))


def test_median_distance() -> None:
    x = torch.randn(2, 2000, 8, generator=torch.Generator().manual_seed(3))
    found = median_distances(x, 3 * x)
    assert found.shape == (2,)
    assert float(median_distances(x)[0]) == pytest.approx(
        float(torch.pdist(x[0, ::2].double()).median()), rel=0.02
    )
    assert float(median_distances(torch.ones(1, 5, 2))) == 0.0
