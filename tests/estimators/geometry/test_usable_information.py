"""Usable information: closed forms, the bound, coarsening, clusters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from infoplane.estimators import (
    usable_accuracy,
    usable_information,
    usable_information_bits,
    usable_information_score,
)
from infoplane.estimators.geometry.usable_information import conditional_entropy


def clusters(separation: float, n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ten clusters in 64 dimensions, ``(1, n, 64)`` and ``(1, n)``."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(10, 64))
    labels = generator.integers(0, 10, n)
    x = separation * centres[labels] + generator.normal(size=(n, 64))
    return torch.from_numpy(x)[None], torch.from_numpy(labels)[None]


@pytest.mark.parametrize(
    ("separation", "score", "accuracy"),
    [(0.0, 0.1001, 0.101), (0.2, 0.1707, 0.505), (0.4, 0.5895, 0.900), (1.0, 1.0, 1.0)],
)
def test_clusters(separation: float, score: float, accuracy: float) -> None:
    """Scores of two-half ridge at n = 8192; the tolerance covers other random centres."""
    x, labels = clusters(separation, 8192, seed=11)
    (found,) = usable_information(x, labels, seeds=[0])
    assert found.score.value == pytest.approx(score, abs=0.035)
    assert found.accuracy.value == pytest.approx(accuracy, abs=0.025)
    # Without signal the accuracy strays below the score by sampling noise.
    assert found.score.value <= found.accuracy.value + 0.01


def test_thin_functions_agree_with_the_record() -> None:
    x, labels = clusters(0.3, 2048, seed=1)
    (found,) = usable_information(x, labels, seeds=[4])
    assert usable_information_score(x, labels, seeds=[4]) == [found.score]
    assert usable_information_bits(x, labels, seeds=[4]) == [found.bits]
    assert usable_accuracy(x, labels, seeds=[4]) == [found.accuracy]


def test_closed_forms_of_the_table() -> None:
    big = 1e9
    assert conditional_entropy(np.eye(4) * big) == 0.0
    assert math.exp(-conditional_entropy(np.full((4, 4), big))) == pytest.approx(0.25, abs=1e-8)
    table = np.array([[0.9, 0.1], [0.1, 0.9]]) * big
    assert math.exp(-conditional_entropy(table)) == pytest.approx(0.72247, abs=1e-5)
    assert conditional_entropy(np.zeros((3, 3))) == 0.0


def test_score_never_exceeds_the_best_accuracy() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        table = generator.integers(0, 40, (6, 6)).astype(float) + 1.0
        best = float(table.max(1).sum() / table.sum())
        assert math.exp(-conditional_entropy(table)) <= best + 1e-12


def test_too_many_classes_are_coarsened_and_random_ones_score_the_null() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 1024, 16, generator=generator)
    labels = torch.randint(0, 64, (4, 1024), generator=generator)
    for found in usable_information(x, labels, seeds=range(4)):
        assert found.score.parameters["label_bits"] == 3
        assert found.score.value == pytest.approx(found.score.null_mean, abs=0.01)
        assert found.bits.value == pytest.approx(0.0, abs=0.05)


def test_batch_equals_single_and_repeats() -> None:
    parts = [clusters(0.3, 512, seed=s) for s in range(3)]
    x, labels = torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
    batch = usable_information(x, labels, seeds=[1, 2, 3])
    assert batch == usable_information(x, labels, seeds=[1, 2, 3])
    for i in range(3):
        (single,) = usable_information(x[i : i + 1], labels[i : i + 1], seeds=[1 + i])
        assert single.score.value == pytest.approx(batch[i].score.value, abs=1e-12)


def test_degenerate_items() -> None:
    x, labels = clusters(0.3, 100, seed=1)
    x, labels = x.repeat(4, 1, 1), labels.repeat(4, 1)
    x[0, 1, 1], x[1], labels[2] = float("nan"), 2.0, 8
    found = usable_information(x, labels, seeds=range(4))
    assert [f.score.undefined for f in found] == ["nan", "constant", "classes", ""]
    assert usable_information(x[:, :9], labels[:, :9], seeds=range(4))[3].bits.undefined == "n"
    with pytest.raises(ValueError, match="seeds"):
        usable_information(x, labels, seeds=[0])
