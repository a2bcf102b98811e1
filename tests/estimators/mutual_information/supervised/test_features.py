"""What the network sees does not depend on what it should not depend on, and is finite."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from infoplane.estimators.mutual_information.supervised.features import (
    DIRECTIONS,
    Features,
    features,
)


def flat(seen: Features) -> torch.Tensor:
    return torch.cat([seen.statistics, seen.directions.flatten(1)], -1)


def test_columns_may_be_reordered_and_mapped(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(2, 200, 4, seed=1, nats=1.0, directions=2)
    seen = flat(features(x, y))
    assert torch.allclose(flat(features(x[..., [2, 0, 3, 1]], y.flip(-1))), seen, atol=1e-5)
    assert torch.equal(flat(features(torch.exp(x), y**3 + 7.0)), seen)


def test_sides_may_be_swapped_also_of_unequal_width(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(2, 200, 6, seed=1, nats=1.0, directions=2)
    one, other = features(x, y[..., :3]), features(y[..., :3], x)
    assert torch.allclose(flat(other), flat(one), atol=1e-5)
    x_half, y_half = one.rows.chunk(2, -1)
    assert torch.allclose(other.rows, torch.cat([y_half, x_half], -1), atol=1e-4)


def test_one_token_per_direction(data: SimpleNamespace) -> None:
    x, y = data.independent(1, 100, 7, seed=2)
    present = features(x, y[..., :5]).directions[0, :, -1]
    assert present.tolist() == [1.0] * 5 + [0.0] * (DIRECTIONS - 5)


@pytest.mark.parametrize("case", ["equal", "few values", "one column constant", "fewer rows"])
def test_awkward_windows_are_finite(data: SimpleNamespace, case: str) -> None:
    n, d = (64, 32) if case == "fewer rows" else (100, 3)
    x, y = data.independent(2, n, d, seed=3)
    if case == "equal":
        y = x.clone()
    elif case == "few values":
        x, y = x.round(), (x + y).sign()
    elif case == "one column constant":
        x[..., 1] = 5.0
        y[1] = 2.0
    seen = features(x, y)
    assert all(bool(part.isfinite().all()) for part in (flat(seen), seen.rows))
