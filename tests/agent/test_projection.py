from __future__ import annotations

import numpy as np
import pytest
import torch

from infoplane.agent.projection import Projection, projection_matrix

CPU = torch.device("cpu")


@pytest.mark.parametrize(("width", "dim", "seed"), [(1, 2, 0), (96, 64, 0), (257, 32, 2**63 + 5)])
def test_torch_and_numpy_agree_bit_by_bit(width: int, dim: int, seed: int) -> None:
    built = Projection(dim, seed).matrix(width, CPU)
    assert built.dtype == torch.float32
    np.testing.assert_array_equal(built.numpy(), projection_matrix(width, dim, seed))


def test_entries_are_balanced_signs_and_columns_are_uncorrelated() -> None:
    matrix = projection_matrix(4096, 64, 0).astype(np.float64)
    assert set(np.unique(matrix)) == {-0.125, 0.125}
    # Column sums of n signs have standard deviation sqrt(n); 5 of them over 64 columns.
    assert np.abs(matrix.sum(axis=0) / 0.125).max() < 5 * np.sqrt(4096)
    gram = matrix.T @ matrix * (64 / 4096) - np.eye(64)
    assert np.abs(gram).max() < 6 / np.sqrt(4096)


def test_squared_length_is_kept_on_average() -> None:
    x = np.random.default_rng(0).normal(size=(200, 300))
    ratio = np.square(x @ projection_matrix(300, 64, 0)).sum(1) / np.square(x).sum(1)
    assert ratio.mean() == pytest.approx(1.0, abs=0.05)


def test_seed_and_width_change_the_matrix_and_a_matrix_is_built_once() -> None:
    projection = Projection(16, 0)
    first = projection.matrix(32, CPU)
    assert projection.matrix(32, CPU) is first
    assert not torch.equal(Projection(16, 1).matrix(32, CPU), first)
    assert not torch.equal(projection.matrix(33, CPU)[:32], first)
