"""Canonical directions."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from infoplane.estimators.mutual_information.canonical import CrossMoments, canonical_directions


@pytest.mark.parametrize(("dx", "dy"), [(6, 6), (6, 4), (4, 6)])
def test_equals_the_whitened_singular_values(data: SimpleNamespace, dx: int, dy: int) -> None:
    x, y = data.gaussian_pairs(2, 500, 6, seed=1, nats=1.0, directions=2)
    x, y = data.rotated(x, 2)[..., :dx], data.rotated(y, 3)[..., :dy]
    found = canonical_directions(CrossMoments.of_rows(x, y), r=3, ridge=0.0)
    qx, _ = torch.linalg.qr(x - x.mean(1, keepdim=True))
    qy, _ = torch.linalg.qr(y - y.mean(1, keepdim=True))
    expected = torch.linalg.svdvals(qx.mT @ qy)[:, :3]
    torch.testing.assert_close(found.correlations, expected, rtol=0, atol=1e-6)
    u, v = found.project(x, y)
    torch.testing.assert_close((u * v).mean(1), expected, rtol=0, atol=1e-6)


def test_moments_of_parts_add_up(data: SimpleNamespace) -> None:
    x, y = data.independent(1, 100, 3, seed=1)
    whole = CrossMoments.of_rows(x, y)
    parts = CrossMoments.of_rows(x[:, :30], y[:, :30]) + CrossMoments.of_rows(x[:, 30:], y[:, 30:])
    for a, b in zip(whole.covariances(), parts.covariances(), strict=True):
        torch.testing.assert_close(a, b)


def test_constant_and_collinear_columns_are_harmless(data: SimpleNamespace) -> None:
    x, y = data.independent(1, 100, 3, seed=1)
    x[..., 1], y[..., 2], y[..., 0] = 0.0, y[..., 1], 0.0
    assert canonical_directions(CrossMoments.of_rows(x, y), r=3).x_weights.isfinite().all()
    zero = CrossMoments.of_rows(0 * x, y)
    assert canonical_directions(zero, r=2).y_weights.isfinite().all()
