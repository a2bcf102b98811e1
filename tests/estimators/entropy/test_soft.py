"""Soft entropy and soft mutual information of rows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from infoplane.estimators.entropy import soft_assignments
from infoplane.estimators.entropy.soft import soft_entropy, soft_mi
from infoplane.estimators.mutual_information.pairings import row_orders
from infoplane.estimators.state.soft_reference import SoftReference


def normal(t: int, n: int, d: int, seed: int) -> Tensor:
    """Return standard normal rows."""
    return torch.randn(t, n, d, generator=torch.Generator().manual_seed(seed))


def clusters(n: int, classes: int, seed: int, spread: float = 0.05) -> tuple[Tensor, Tensor]:
    """Return rows ``(1, n, 128)`` around class centres, and the classes."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, 128, generator=generator)
    labels = torch.randint(0, classes, (1, n), generator=generator)
    return centres[labels] + spread * torch.randn(1, n, 128, generator=generator), labels


def by_hand(x: np.ndarray, labels: np.ndarray, points: int = 100) -> tuple[float, float]:
    """Return entropy and raw information, label by label in float64."""
    shares = SoftReference(x.shape[1], points).assignments(x)

    def entropy(part: np.ndarray) -> float:
        p = part.mean(0)
        return float(-(p * np.log(p)).sum() / math.log(points))

    total = entropy(shares)
    conditional = sum(
        (labels == c).mean() * entropy(shares[labels == c]) for c in np.unique(labels)
    )
    return total, total - conditional


def test_spread_and_collapsed_directions() -> None:
    spread = soft_entropy(normal(2, 2048, 128, 1))
    assert [e.value for e in spread] == pytest.approx([0.998] * 2, abs=0.001)
    assert all(e.saturated for e in spread)
    collapsed = torch.ones(1, 64, 128) + 0.01 * normal(1, 64, 128, 2)
    (found,) = soft_entropy(collapsed)
    assert found.value == pytest.approx(0.531, abs=0.03)
    assert not found.saturated
    assert soft_entropy(torch.ones(1, 64, 128))[0].defined


def test_equals_label_by_label_in_double_precision() -> None:
    x, labels = clusters(500, 30, 3, spread=1.0)
    entropy, information = by_hand(x[0].double().numpy(), labels[0].numpy())
    assert soft_entropy(x)[0].value == pytest.approx(entropy, abs=1e-6)
    (bare,) = soft_mi(x, labels, seeds=[0], permutations=0)
    assert bare.value == pytest.approx(information, abs=1e-6)
    (found,) = soft_mi(x, labels, seeds=[0])
    assert found.parameters["raw"] == pytest.approx(information, abs=1e-6)
    assert found.value == pytest.approx(information - float(found.parameters["raw_null"]))


def test_shuffles_are_those_of_labels() -> None:
    x, labels = clusters(400, 20, 4, spread=1.0)
    (found,) = soft_mi(x, labels, seeds=[5], permutations=4)
    draws = []
    for order in row_orders([5], 400, permutations=4, device=x.device)[0, 1:]:
        shuffled = torch.empty_like(labels[0])
        shuffled[order] = labels[0].sort().values
        draws.append(by_hand(x[0].double().numpy(), shuffled.numpy())[1])
    assert found.parameters["raw_null"] == pytest.approx(np.mean(draws), abs=1e-6)
    # The spread of a draw about the mean of four others.
    assert found.null_sd == pytest.approx(np.std(draws, ddof=1) * math.sqrt(1.25), abs=1e-6)


@pytest.mark.parametrize(("classes", "raw"), [(2, 0.002), (10, 0.015), (50, 0.066), (500, 0.31)])
def test_random_labels_read_zero(classes: int, raw: float) -> None:
    x = normal(3, 2048, 128, classes)
    labels = torch.randint(0, classes, (3, 2048), generator=torch.Generator().manual_seed(classes))
    found = soft_mi(x, labels, seeds=range(3))
    assert [e.value for e in found] == pytest.approx([0.0] * 3, abs=0.005)
    assert [e.parameters["raw"] for e in found] == pytest.approx([raw] * 3, rel=0.2, abs=7e-4)
    assert all(abs(e.value) < 5 * (e.null_sd or 0.0) for e in found)
    assert all(e.null_mean == 0.0 for e in found)


def test_distinct_labels_have_nothing_to_tell() -> None:
    x = normal(1, 1024, 64, 6)
    (found,) = soft_mi(x, torch.arange(1024).unsqueeze(0), seeds=[0], max_labels=1024)
    assert found.value == pytest.approx(0.0, abs=1e-6)
    assert found.parameters["raw"] == pytest.approx(found.ceiling, abs=0.01)


def test_clean_clusters_reach_the_ceiling_and_shuffled_ones_do_not() -> None:
    x, labels = clusters(2048, 10, 7)
    (found,) = soft_mi(x, labels, seeds=[0])
    assert 0.3 < found.value < math.log(10) / math.log(100)
    assert found.saturated
    assert found.value <= (found.ceiling or 0.0) + 0.01
    half = labels.clone()
    half[:, :1024] = half[:, torch.randperm(1024, generator=torch.Generator().manual_seed(1))]
    (less,) = soft_mi(x, half, seeds=[0])
    assert 0.1 < less.value < 0.6 * found.value
    assert not less.saturated


def test_labels_beyond_the_largest_number_count_as_one() -> None:
    x, labels = clusters(600, 12, 8)
    for kept in (0, 1, 5, 11):
        (found,) = soft_mi(x, labels, seeds=[0], max_labels=kept)
        if kept == 0:
            assert found.undefined == "classes"
            continue
        (expected,) = soft_mi(x, labels.clamp(max=kept), seeds=[0])
        assert found.value == pytest.approx(expected.value, abs=1e-7)
    shifted = 7 * labels - 100
    (same,) = soft_mi(x, shifted, seeds=[0])
    assert same.value == pytest.approx(soft_mi(x, labels, seeds=[0])[0].value, abs=1e-7)


def test_bands_cover_the_spread_over_samples() -> None:
    x, labels = clusters(60 * 200, 5, 9, spread=1.0)
    x, labels = x.reshape(60, 200, 128), labels.reshape(60, 200)
    for found in (soft_entropy(x), soft_mi(x, labels, seeds=range(60))):
        half = np.mean([e.band[1] - e.value for e in found if e.band])
        assert half / 1.96 == pytest.approx(np.std([e.value for e in found]), rel=0.4)


def test_batch_equals_items_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = normal(5, 90, 16, 10)
    labels = torch.randint(0, 7, (5, 90), generator=torch.Generator().manual_seed(1))
    labels[2] = labels[2].clamp(max=2)
    seeds = [3, 1, 4, 1, 5]
    whole, entropies = soft_mi(x, labels, seeds=seeds), soft_entropy(x)
    monkeypatch.setitem(soft_assignments.CHUNK_ELEMENTS, "cpu", 2 * 9 * 7 * 100 + 1)
    for found in (
        soft_mi(x, labels, seeds=seeds),
        [soft_mi(x[i : i + 1], labels[i : i + 1], seeds=seeds[i : i + 1])[0] for i in range(5)],
    ):
        for one, other in zip(found, whole, strict=True):
            assert one.value == pytest.approx(other.value, abs=1e-6)
            assert one.null_sd == pytest.approx(other.null_sd, abs=1e-6)
            assert one.band == pytest.approx(other.band, abs=1e-6)
            assert one.ceiling == pytest.approx(other.ceiling, abs=1e-6)
    again = soft_entropy(x)
    assert [e.value for e in again] == pytest.approx([e.value for e in entropies], abs=1e-6)


def test_own_entropy_is_that_of_the_rows() -> None:
    for d in (3, 64):
        x = normal(2, 300, d, 13)
        for one, rows in zip(soft_assignments.assign(x, SoftReference(d)).own, x, strict=True):
            shares = SoftReference(d).assignments(rows.double().numpy())
            expected = -(shares * np.log(np.maximum(shares, 1e-300))).sum(1).mean()
            assert float(one) == pytest.approx(expected, abs=1e-4)


def test_scale_of_rows_changes_nothing() -> None:
    x = normal(1, 100, 16, 11)
    scale = 10.0 ** torch.linspace(-15, 15, 100).view(1, 100, 1)
    others = (x * scale, x * scale * 1e18, x * scale * 1e-15, x.double() * 1e200)
    found = [soft_entropy(y)[0].value for y in (x, *others)]
    assert found == pytest.approx([found[0]] * 5, abs=1e-6)


def test_degenerate_items_say_why_and_leave_the_others_alone() -> None:
    x = normal(5, 40, 8, 12)
    labels = torch.randint(0, 4, (5, 40), generator=torch.Generator().manual_seed(2))
    sound = soft_mi(x[:1], labels[:1], seeds=[0])[0].value
    x[1, 0, 0], x[2], x[4, 3] = math.nan, 0.0, 0.0
    labels[3] = 7
    found = soft_mi(x, labels, seeds=range(5))
    assert [e.undefined for e in found] == ["", "nan", "constant", "classes", ""]
    assert [e.undefined for e in soft_entropy(x)] == ["", "nan", "constant", "", ""]
    assert found[0].value == pytest.approx(sound, abs=1e-6)
    assert {e.undefined for e in soft_mi(x[:, :1], labels[:, :1], seeds=range(5))} == {"n"}
    assert {e.undefined for e in soft_entropy(x[:, :0])} == {"n"}
    assert {e.undefined for e in soft_entropy(x[..., :1])} == {"d"}
    assert {e.undefined for e in soft_entropy(x[..., :0])} == {"d"}
    assert soft_entropy(x[:0]) == soft_mi(x[:0], labels[:0], seeds=[]) == []
    assert soft_entropy(x[:1, :, :2])[0].defined


def test_wrong_arguments() -> None:
    x, labels = normal(2, 10, 4, 1), torch.zeros(2, 10, dtype=torch.long)
    with pytest.raises(ValueError, match="x: expected"):
        soft_entropy(x[0])
    with pytest.raises(ValueError, match="points"):
        soft_entropy(x, points=1)
    with pytest.raises(ValueError, match="x, labels, seeds"):
        soft_mi(x, labels[:, :5], seeds=[0, 1])
    with pytest.raises(ValueError, match="x, labels, seeds"):
        soft_mi(x, labels, seeds=[0])
    with pytest.raises(ValueError, match="permutations"):
        soft_mi(x, labels, seeds=[0, 1], permutations=-1)
