"""Soft entropy and information of merged counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infoplane.estimators.entropy.soft import soft_entropy, soft_mi
from infoplane.estimators.entropy.soft_verdicts import soft_entropy_of_counts, soft_mi_of_counts
from infoplane.estimators.state.soft_counts import SoftCounts
from infoplane.estimators.state.soft_reference import SoftReference

REFERENCE = SoftReference(16)


def rows(seed: int, n: int = 600, classes: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Return rows around class centres, and the classes."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, n)
    return generator.normal(size=(classes, 16))[labels] + generator.normal(size=(n, 16)), labels


def test_merged_counts_give_what_all_rows_give() -> None:
    x, labels = rows(1)
    shards = [slice(0, 100), slice(100, 100), slice(100, 600)]
    merged = SoftCounts.zero(REFERENCE, max_labels=30)
    for part in shards:
        merged += SoftCounts.of_rows(x[part], labels[part], reference=REFERENCE, max_labels=30)
    tensors = torch.from_numpy(x)[None], torch.from_numpy(labels)[None]
    (pooled,) = soft_mi(*tensors, seeds=[0], permutations=0, max_labels=30)
    found = soft_mi_of_counts(merged)
    assert found.value == pytest.approx(pooled.value, abs=1e-6)
    assert found.ceiling == pytest.approx(pooled.ceiling, abs=1e-6)
    assert {**found.parameters, "raw": 0} == {**pooled.parameters, "raw": 0}
    entropy = soft_entropy_of_counts(merged)
    assert entropy.value == pytest.approx(soft_entropy(tensors[0])[0].value, abs=1e-6)
    assert entropy.band is None


def test_counts_of_shuffled_labels_are_the_null() -> None:
    x, labels = rows(2)
    generator = np.random.default_rng(3)
    counts = SoftCounts.of_rows(x, labels, reference=REFERENCE)
    nulls = [
        SoftCounts.of_rows(x, generator.permutation(labels), reference=REFERENCE) for _ in range(8)
    ]
    found = soft_mi_of_counts(counts, nulls)
    (pooled,) = soft_mi(torch.from_numpy(x)[None], torch.from_numpy(labels)[None], seeds=[0])
    assert found.value == pytest.approx(pooled.value, abs=4 * (pooled.null_sd or 0.0))
    assert found.parameters["raw"] == pytest.approx(pooled.parameters["raw"], abs=1e-6)
    assert soft_mi_of_counts(nulls[0], nulls[1:]).value == pytest.approx(0.0, abs=0.01)


def test_undefined_counts() -> None:
    x, labels = rows(4)
    zero = SoftCounts.zero(REFERENCE)
    assert soft_entropy_of_counts(zero).undefined == "n"
    assert soft_mi_of_counts(zero).undefined == "n"
    one = SoftCounts.of_rows(x, np.zeros_like(labels), reference=REFERENCE)
    assert soft_mi_of_counts(one).undefined == "classes"
    assert soft_mi_of_counts(SoftCounts.of_rows(x, reference=REFERENCE)).undefined == "classes"
    assert soft_entropy_of_counts(SoftCounts.of_rows(x, reference=REFERENCE)).defined
