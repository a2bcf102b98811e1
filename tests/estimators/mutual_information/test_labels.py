"""Label entropy and coarsening."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from infoplane.estimators import coarsen_labels, label_entropy
from infoplane.estimators.mutual_information.labels import dense_labels, whitened_one_hot


def test_entropy_of_even_and_single_labels() -> None:
    assert label_entropy(np.arange(4).repeat(1000)) == pytest.approx(math.log(4), abs=1e-12)
    assert label_entropy(np.zeros(5, dtype=int)) == 0.0
    assert label_entropy(np.zeros(0, dtype=int)) == 0.0


def test_miller_madow_removes_most_of_the_bias() -> None:
    generator = np.random.default_rng(0)
    values = [label_entropy(generator.integers(0, 30, 200)) for _ in range(50)]
    assert float(np.mean(values)) == pytest.approx(math.log(30), abs=0.01)


@pytest.mark.parametrize(("n", "bits"), [(20480, 6), (1024, 3), (320, 3), (319, 2), (4, 0)])
def test_low_bits_fit_the_rows(n: int, bits: int) -> None:
    labels = np.arange(n) % 64
    coarse, kept = coarsen_labels(labels)
    assert kept == bits or n < 64
    assert np.array_equal(coarse, labels & ((1 << kept) - 1))
    assert n >= 5 * 4**kept or kept == 0


def test_dense_labels_and_their_code() -> None:
    dense, classes = dense_labels(torch.tensor([[7, 7, 3], [1, 5, 9]]))
    assert dense.tolist() == [[1, 1, 0], [0, 1, 2]]
    assert classes == [2, 3]
    code = whitened_one_hot(dense, 3)
    covariance = code.mT @ code / 3
    torch.testing.assert_close(covariance @ covariance, covariance)
