from __future__ import annotations

import numpy as np
import pytest
import torch

from infoplane.agent.sampling import MAX_ROWS, MIN_ROWS, RowSampling, rows_per_step

CPU = torch.device("cpu")


@pytest.mark.parametrize("num_rows", [1, 15, 64, 1000])
def test_pick_takes_the_k_smallest_keys_of_the_numpy_twin(num_rows: int) -> None:
    sampling = RowSampling(key_seed=11, dp_rank=3, rows_per_step=64)
    keys, positions = sampling.pick(100, 0, num_rows, CPU)
    every = sampling.keys(100, 0, np.arange(num_rows, dtype=np.uint64))
    order = np.argsort(every)[:64]
    np.testing.assert_array_equal(positions.numpy(), order)
    np.testing.assert_array_equal(keys.numpy().astype(np.uint64), every[order])
    assert int(keys.min()) >= 0


def test_keys_depend_on_seed_step_rank_and_micro_only() -> None:
    at = np.arange(50, dtype=np.uint64)
    base = RowSampling(1, 0, 16).keys(5, 0, at)
    np.testing.assert_array_equal(RowSampling(1, 0, 32).keys(5, 0, at), base)
    others = [
        RowSampling(2, 0, 16).keys(5, 0, at),
        RowSampling(1, 1, 16).keys(5, 0, at),
        RowSampling(1, 0, 16).keys(6, 0, at),
        RowSampling(1, 0, 16).keys(5, 1, at),
    ]
    for other in others:
        assert not set(other.tolist()) & set(base.tolist())


def test_keys_are_uniform() -> None:
    keys = RowSampling(0, 0, 16).keys(0, 0, np.arange(100_000, dtype=np.uint64))
    grid = np.sort(keys) / 2.0**63
    # Kolmogorov-Smirnov: exceeding 1.63 / sqrt(n) has probability 1 % for uniform keys.
    distance = np.abs(grid - (np.arange(grid.size) + 0.5) / grid.size).max()
    assert distance < 1.63 / np.sqrt(grid.size)


def test_no_random_state_is_used() -> None:
    before = torch.get_rng_state()
    RowSampling(0, 0, 16).pick(0, 0, 100, CPU)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("dp_size", "expected"), [(1, 128), (2, 64), (8, MIN_ROWS), (1000, MIN_ROWS)]
)
def test_rows_per_step_shares_the_window(dp_size: int, expected: int) -> None:
    assert rows_per_step(1024, dp_size, 8) == expected


def test_rows_per_step_is_bounded_above() -> None:
    assert rows_per_step(65536, 1, 1) == MAX_ROWS
