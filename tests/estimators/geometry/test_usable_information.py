"""Usable information: closed forms, the bound, coarsening, clusters."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infoplane.estimators import (
    usable_accuracy,
    usable_information,
    usable_information_bits,
    usable_information_score,
)
from infoplane.estimators.geometry.usable_information import (
    conditional_entropy,
    usable_information_of_table,
)


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


@pytest.mark.parametrize(
    ("shares", "score", "accuracy"),
    [
        (np.eye(4), 1.0, 1.0),
        (np.full((4, 4), 0.25), 0.25, 0.25),
        (np.array([[0.9, 0.1], [0.1, 0.9]]), 0.9**0.9 * 0.1**0.1, 0.9),
    ],
)
def test_closed_forms_of_the_table(
    shares: npt.NDArray[np.float64], score: float, accuracy: float
) -> None:
    """Counts so large that the correction of order 1/n is below 1e-9."""
    found = usable_information_of_table(shares * 1e12, d=1, label_bits=2)
    assert found.score.value == pytest.approx(score, abs=1e-9)
    assert found.accuracy.value == pytest.approx(accuracy, abs=1e-9)
    # Classes are equally frequent here, so that bits = log2 C + log2 score.
    bits = math.log2(len(shares) * score)
    assert found.bits.value == pytest.approx(bits, abs=1e-9)


def test_conditional_entropy_of_known_tables() -> None:
    error_of_one_in_ten = np.array([[9e11, 1e11], [1e11, 9e11]])
    score = math.exp(-conditional_entropy(error_of_one_in_ten))
    assert score == pytest.approx(0.72247, abs=5e-6)
    assert conditional_entropy(np.zeros((3, 3))) == 0.0


@given(
    st.integers(2, 8).flatmap(
        lambda c: st.lists(
            st.lists(st.integers(0, 500), min_size=c, max_size=c), min_size=c, max_size=c
        )
    )
)
@settings(max_examples=150, deadline=None)
def test_score_never_exceeds_the_best_accuracy_of_its_table(counts: list[list[int]]) -> None:
    table = np.array(counts, dtype=np.float64)
    if table.sum() > 0:
        best = float(table.max(1).sum() / table.sum())
        assert math.exp(-conditional_entropy(table)) <= best + 1e-12
    found = usable_information_of_table(table, d=1, label_bits=3)
    if found.score.defined:
        assert found.score.value <= best + 1e-12
        assert found.bits.value <= (found.bits.ceiling or 0.0) + 1e-12


@pytest.mark.parametrize(("classes", "n"), [(2, 20), (10, 500), (14, 980), (50, 12_500)])
def test_tables_need_five_rows_a_cell(classes: int, n: int) -> None:
    table = np.zeros((classes, classes))
    table[0, :] = n // classes
    table[0, 0] += n - table.sum()
    assert usable_information_of_table(table, d=1, label_bits=6).score.defined
    table[0, 0] -= 1
    found = usable_information_of_table(table, d=1, label_bits=6)
    assert found.score.undefined == found.bits.undefined == found.accuracy.undefined == "n"


@pytest.mark.parametrize(
    ("classes", "n"), [(2, 64), (2, 1024), (8, 320), (10, 500), (14, 1024), (20, 2048), (40, 8192)]
)
def test_random_labels_score_the_null(classes: int, n: int) -> None:
    """At and above 5 rows a cell, the mean over windows is within 0.01 of the null."""
    windows = 64 if n < 2000 else 16
    generator = torch.Generator().manual_seed(classes)
    x = torch.randn(windows, n, 4, generator=generator)
    labels = torch.randint(0, classes, (windows, n), generator=generator)
    found = [item.score for item in usable_information(x, labels, seeds=range(windows))]
    assert {item.parameters["classes"] for item in found} == {classes}
    excess = [item.value - (item.null_mean or 0.0) for item in found]
    assert sum(excess) / windows == pytest.approx(0.0, abs=0.01)


def test_degenerate_tables() -> None:
    for table, reason in (
        (np.zeros((0, 0)), "n"),
        (np.zeros((3, 3)), "n"),
        (np.diag([100.0, 0.0]), "classes"),
        (np.diag([100.0, -1.0]), "nan"),
        (np.diag([100.0, np.nan]), "nan"),
        (np.diag([100.0, np.inf]), "nan"),
    ):
        found = usable_information_of_table(table, d=1, label_bits=1)
        assert found.bits.undefined == reason
    with pytest.raises(ValueError, match="table"):
        usable_information_of_table(np.zeros((2, 3)), d=1, label_bits=1)


def test_classes_that_no_row_has_take_no_part() -> None:
    table = np.array([[40.0, 9.0], [11.0, 40.0]])
    padded = np.zeros((4, 4))
    padded[np.ix_([0, 2], [0, 2])] = table
    assert usable_information_of_table(padded, d=1, label_bits=2) == (
        usable_information_of_table(table, d=1, label_bits=2)
    )


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
