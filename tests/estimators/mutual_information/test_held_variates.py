"""Held-out variates: noise leaves nothing, a shared direction stays."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from infoplane.estimators.mutual_information.held_variates import held_variates, with_energy


def test_independent_data_leave_no_direction(data: SimpleNamespace) -> None:
    x, y = data.independent(8, 600, 40, seed=3)
    folds = list(held_variates(x, y, folds=3, r=4, ridge=1e-2))
    assert [f.rows for f in folds] == [slice(0, 200), slice(200, 400), slice(400, 600)]
    assert sum(int((f.rank > 0).sum()) for f in folds) <= 2


def test_shared_directions_stay_in_order(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(2, 900, 10, seed=3, nats=2.0, directions=2)
    for fold in held_variates(x, y, folds=3, r=4, ridge=1e-2):
        assert fold.rank[:, :2].tolist() == [[1, 2], [1, 2]]
        u, v = fold.leading(torch.tensor([1]), 1)
        assert float(u[..., 1:].abs().max()) == 0.0 == float(v[..., 1:].abs().max())


def test_energy_is_one_more_column(data: SimpleNamespace) -> None:
    x, _ = data.independent(2, 50, 4, seed=1)
    assert with_energy(x).shape == (2, 50, 5)
