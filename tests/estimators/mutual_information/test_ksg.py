"""KSG and Ross against closed forms, a slow reference and scikit-learn."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_classif

from infoplane.estimators import ksg, ksg_labels
from infoplane.estimators.mutual_information import blocks
from infoplane.estimators.mutual_information import ksg as ksg_module
from infoplane.estimators.mutual_information.ksg import ksg_terms


@pytest.mark.parametrize(("d", "tolerance"), [(1, 0.05), (2, 0.05), (4, 0.2)])
def test_gaussian_pairs(data: SimpleNamespace, d: int, tolerance: float) -> None:
    x, y = data.gaussian_pairs(1, 4096, d, seed=4, nats=1.0, directions=d)
    assert float(ksg(x, y, k=5)) == pytest.approx(1.0, abs=tolerance)


def test_equals_a_readable_reference(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(2, 60, 3, seed=4, nats=1.0, directions=2)
    k = 4
    for i in range(2):
        dx = torch.cdist(x[i], x[i]).numpy()
        dy = torch.cdist(y[i], y[i]).numpy()
        terms = []
        for row in range(60):
            others = np.arange(60) != row
            joint = np.maximum(dx[row], dy[row])[others]
            radius = np.sort(joint)[k - 1]
            nx, ny = (int((d[row][others] < radius).sum()) for d in (dx, dy))
            terms.append(digamma(k) + digamma(60) - digamma(nx + 1) - digamma(ny + 1))
        assert float(ksg(x, y, k=k)[i]) == pytest.approx(float(np.mean(terms)), abs=1e-9)


def test_ross_equals_scikit_learn_in_one_column(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(1, 500, 1, seed=6, nats=0.7, directions=1)
    labels = torch.bucketize(y[..., 0], torch.tensor([-1.0, 0.0, 0.5], dtype=torch.float64))
    oracle = mutual_info_classif(
        x[0].numpy(), labels[0].numpy(), n_neighbors=3, discrete_features=False, random_state=0
    )
    assert float(ksg_labels(x, labels, k=3)) == pytest.approx(float(oracle[0]), abs=1e-3)


def test_blocks_do_not_change_the_result(
    data: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = data.gaussian_pairs(3, 150, 2, seed=4, nats=1.0, directions=2)
    labels = (y[..., 0] > 0).long()
    whole = ksg(x, y), ksg_labels(x, labels)
    monkeypatch.setitem(blocks.BLOCK_ELEMENTS, "cpu", 1000)
    torch.testing.assert_close(ksg(x, y), whole[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(ksg_labels(x, labels), whole[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["normal", "clusters", "heavy", "whole numbers", "large rows"])
def test_screening_in_float32_changes_nothing(
    data: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    x, y = data.gaussian_pairs(2, 600, 40, seed=4, nats=4.0, directions=8)
    if kind == "clusters":
        x, y = 9.0 * x[:, :5].repeat(1, 120, 1) + x, 9.0 * y[:, :5].repeat(1, 120, 1) + y
    elif kind == "heavy":
        x, y = x / x[..., :1], y / y[..., 1:2]
    elif kind == "whole numbers":
        x = (2.0 * x).round()
    elif kind == "large rows":
        x[:, :3] *= 1e4
    partners = torch.stack([y, y.roll(1, 1)], 1)
    calls = []
    single = ksg_module._Balls.screened

    def counted(*arguments: object) -> object:
        calls.append(1)
        return single(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ksg_module._Balls, "screened", counted)
    found = ksg_terms(x, partners, k=3)
    assert calls
    monkeypatch.setattr(ksg_module, "SCREENED_WIDTH", 10**9)
    torch.testing.assert_close(found, ksg_terms(x, partners, k=3), rtol=0, atol=1e-9)


def test_coarser_float32_products_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(1, 1000, 64)
    assert ksg_module._worth_screening(x, x)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert not ksg_module._worth_screening(x, x)


def test_many_partners_equal_one_by_one(data: SimpleNamespace) -> None:
    x, y = data.gaussian_pairs(2, 100, 2, seed=4, nats=1.0, directions=2)
    partners = torch.stack([y, y.flip(1)], 1)
    both = ksg_terms(x, partners, k=3)
    torch.testing.assert_close(both[:, 1], ksg_terms(x, y.flip(1).unsqueeze(1), k=3)[:, 0])


def test_fewer_rows_than_neighbours_is_nan(data: SimpleNamespace) -> None:
    x, y = data.independent(1, 3, 2, seed=1)
    assert torch.isnan(ksg(x, y, k=3)).all()
    assert torch.isnan(ksg_labels(x, torch.zeros(1, 3, dtype=torch.long), k=3)).all()
