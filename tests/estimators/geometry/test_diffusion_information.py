"""Diffusion spectral mutual information: blobs, closed form, null, degenerate labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from infoplane.estimators.geometry.diffusion_entropy import diffusion_entropy
from infoplane.estimators.geometry.diffusion_information import class_sets, diffusion_mi


def blobs(n: int, d: int, corruption: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return three overlapping blobs, and labels of which a share is drawn anew."""
    r = np.random.default_rng(seed)
    blob = np.arange(n) % 3
    x = 2.0 * r.normal(size=(3, d))[blob] + r.normal(size=(n, d))
    drawn = np.where(r.random(n) < corruption, r.integers(0, 3, n), blob)
    return torch.from_numpy(x)[None], torch.from_numpy(drawn)[None]


def test_blobs_fall_with_corruption_and_the_null_is_zero() -> None:
    values = []
    for corruption in (0.0, 0.2, 0.5, 1.0):
        x, labels = blobs(1500, 20, corruption, 1)
        (found,) = diffusion_mi(x, labels, bandwidths=[20**0.5], seeds=[3])
        values.append(found.value)
        assert found.null_mean == pytest.approx(0.0, abs=0.05)
    assert values[0] > values[1] + 0.3 > values[2] + 0.5
    assert values[2] > values[3] + 0.05
    assert values[3] == pytest.approx(0.0, abs=0.05)
    # The published generator's 1.14; other blobs, hence the wide margin.
    assert values[0] == pytest.approx(1.14, abs=0.2)


@pytest.mark.parametrize("classes", [2, 4])
def test_far_coincident_classes(classes: int) -> None:
    """A class is one point, 0 bits; a random set sees all of them in about equal parts."""
    labels = torch.arange(400)[None] % classes
    x = 100.0 * labels[..., None].to(torch.float64)
    (found,) = diffusion_mi(x, labels, bandwidths=[1.0], seeds=[0])
    assert found.value == pytest.approx(math.log2(classes), abs=1e-6)
    assert found.saturated
    assert found.ceiling == pytest.approx(math.log2(classes), abs=0.01)
    assert found.null_mean == pytest.approx(0.0, abs=1e-6)


def test_value_is_the_difference_of_entropies() -> None:
    x, labels = blobs(90, 6, 0.3, 2)
    labels[0, :20] = 7
    (found,) = diffusion_mi(x, labels, bandwidths=[3.0], kernel="anisotropic", power=2, seeds=[5])

    def bits(rows: Tensor) -> float:
        (one,) = diffusion_entropy(
            x[:, rows], bandwidths=[3.0], kernel="anisotropic", power=2, seeds=[0]
        )
        return one.value

    value = null = 0.0
    for one in class_sets(labels[0].numpy(), 5, 5, 1):
        reference = sum(map(bits, one.references)) / 5
        value += one.share * (reference - bits(one.members))
        null += one.share * (reference - bits(one.nulls[0]))
    assert found.value == pytest.approx(value, abs=1e-11)
    assert found.null_mean == pytest.approx(null, abs=1e-11)


def test_sets_are_classes_random_sets_and_a_permutation() -> None:
    labels = np.random.default_rng(3).integers(0, 4, 101)
    sets = class_sets(labels, 9, 3, 2)
    assert sum(one.share for one in sets) == pytest.approx(1.0)
    for kind, one in enumerate(sets):
        assert one.members.tolist() == np.flatnonzero(labels == kind).tolist()
        assert one.references.shape == (3, len(one.members))
        assert all(len(set(draw.tolist())) == len(one.members) for draw in one.references)
    for draw in range(2):
        permuted = torch.cat([one.nulls[draw] for one in sets])
        assert sorted(permuted.tolist()) == list(range(101))


def test_random_labels_read_zero_whatever_their_sizes() -> None:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(6, 400, 10, generator=generator)
    share = torch.arange(1, 41.0) ** -1.1
    labels = torch.multinomial(share, 6 * 400, replacement=True, generator=generator).view(6, 400)
    found = diffusion_mi(x, labels, bandwidths=[4.0] * 6, seeds=range(6), permutations=3)
    for one in found:
        assert one.value == pytest.approx(0.0, abs=0.06)
        assert one.null_mean == pytest.approx(0.0, abs=0.06)
        assert one.null_sd is not None


def test_batch_equals_single_items_and_repeats() -> None:
    parts = [blobs(210, 5, 0.3, seed) for seed in range(4)]
    x, labels = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    labels[1] %= 2
    batch = diffusion_mi(x, labels, bandwidths=[2.0] * 4, seeds=range(4))
    assert batch == diffusion_mi(x, labels, bandwidths=[2.0] * 4, seeds=range(4))
    for i in range(4):
        (one,) = diffusion_mi(x[i : i + 1], labels[i : i + 1], bandwidths=[2.0], seeds=[i])
        assert one.value == pytest.approx(batch[i].value, abs=1e-10)
        assert one.null_mean == pytest.approx(batch[i].null_mean, abs=1e-10)


def test_single_rows_of_a_class_add_nothing() -> None:
    x, labels = blobs(92, 4, 0.0, 5)
    labels[0, 90:] = torch.tensor([50, 60])
    (found,) = diffusion_mi(x, labels, bandwidths=[2.0], seeds=[1])
    sets = class_sets(labels[0].numpy(), 1, 5, 1)
    assert sum(one.share for one in sets) == pytest.approx(90 / 92)
    assert found.parameters["classes"] == 5
    assert 0.0 < found.value < found.ceiling


def test_ceiling_of_small_classes_is_their_size() -> None:
    x = torch.randn(1, 200, 3, generator=torch.Generator().manual_seed(6))
    labels = torch.arange(200)[None] // 2
    (found,) = diffusion_mi(x, labels, bandwidths=[1.0], seeds=[0])
    assert found.ceiling == pytest.approx(1.0)


def test_degenerate_items() -> None:
    x = torch.randn(7, 60, 3, generator=torch.Generator().manual_seed(7))
    labels = torch.arange(60).repeat(7, 1) % 3
    x[0, 3, 1], x[1] = torch.nan, 2.0
    labels[2], labels[3] = 5, torch.arange(60)
    x[4, :55] = 1.0
    reasons = [e.undefined for e in diffusion_mi(x, labels, bandwidths=None, seeds=range(7))]
    assert reasons == ["nan", "constant", "classes", "classes", "duplicates", "", ""]
    given = diffusion_mi(x, labels, bandwidths=[1.0] * 6 + [0.0], seeds=range(7))
    assert [e.undefined for e in given] == ["nan", "", "classes", "classes", "", "", "bandwidth"]
    assert given[1].value == pytest.approx(0.0, abs=1e-11)
    (one,) = diffusion_mi(
        x[5:6], labels[5:6], bandwidths=None, seeds=[0], repetitions=1, permutations=0
    )
    assert one.null_mean is None
    assert (
        diffusion_mi(x[:, :1], labels[:, :1], bandwidths=None, seeds=range(7))[5].undefined == "n"
    )
    assert (
        diffusion_mi(x[:, :0], labels[:, :0], bandwidths=None, seeds=range(7))[5].undefined == "n"
    )
    assert diffusion_mi(x[:0], labels[:0], bandwidths=None, seeds=[]) == []


def test_wrong_arguments_raise() -> None:
    x, labels = blobs(30, 2, 0.0, 8)
    for match, change in (
        ("seeds", {"seeds": []}),
        ("bandwidths", {"bandwidths": []}),
        ("kernel", {"kernel": "cosine"}),
        ("power", {"power": -1}),
        ("repetitions", {"repetitions": 0}),
        ("permutations", {"permutations": -1}),
    ):
        with pytest.raises(ValueError, match=match):
            diffusion_mi(x, labels, **({"bandwidths": None, "seeds": [0]} | change))
    with pytest.raises(ValueError, match="labels"):
        diffusion_mi(x, labels[:, :5], bandwidths=None, seeds=[0])
