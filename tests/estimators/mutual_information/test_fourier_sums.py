"""Pair sums of random Fourier features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infoplane.estimators.mutual_information.fourier_sums import (
    features_of,
    sums_of_moments,
    sums_of_rows,
)
from infoplane.estimators.state.fourier import FourierFeatures, FourierMoments

MAPS = FourierFeatures(3, 2, 1.2, 0.9, 32)


def test_sums_equal_those_of_the_features_gram_matrices() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(60, 3, generator=generator), torch.randn(60, 2, generator=generator)
    orders = torch.stack([torch.randperm(60, generator=generator) for _ in range(2)])
    phi, psi = features_of(x, MAPS, 0), features_of(y, MAPS, 1)
    np.testing.assert_allclose(phi.numpy(), MAPS.of_side(x.numpy(), 0), atol=1e-12)
    (pair, own_x, _), shuffled = sums_of_rows(x, y, MAPS, orders)

    def expected(left: torch.Tensor, right: torch.Tensor) -> list[float]:
        k, l = (gram.clone().fill_diagonal_(0) for gram in (left, right))  # noqa: E741
        parts = (k * l).sum(), (k.sum(1) * l.sum(1)).sum(), k.sum(), l.sum()
        return [60.0, *map(float, parts)]

    def found(sums: object, j: int | None = None) -> list[float]:
        values = [getattr(sums, name) for name in ("n", "product", "rows", "left", "right")]
        return [float(v if j is None else v[j]) for v in values]

    assert found(pair) == pytest.approx(expected(phi @ phi.T, psi @ psi.T))
    a, b = (2.0**0.5 * half for half in phi.chunk(2, 1))
    assert found(own_x) == pytest.approx(expected(a @ a.T, b @ b.T))
    for j in range(2):
        moved = psi[orders[j]]
        assert found(shuffled, j) == pytest.approx(expected(phi @ phi.T, moved @ moved.T))
    moments = FourierMoments.of_rows(x.numpy(), y.numpy(), maps=MAPS)
    for one, other in zip(sums_of_moments(moments), (pair, own_x), strict=False):
        assert found(one) == pytest.approx(found(other), rel=1e-10)
