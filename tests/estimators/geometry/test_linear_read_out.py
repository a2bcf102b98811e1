"""Usable information from moments and tables of shards."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
import torch

from infoplane.estimators import usable_information
from infoplane.estimators.geometry.linear_read_out import (
    LinearReadOut,
    labelled_moments,
    ridge_read_out,
)
from infoplane.estimators.geometry.usable_information import usable_information_of_table
from infoplane.estimators.mutual_information.pairings import row_orders
from infoplane.estimators.state import Moments

CLASSES = 6


def clusters(seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, 1000)
    centres = generator.normal(size=(CLASSES, 12))
    return 0.7 * centres[labels] + generator.normal(size=(1000, 12)) + 5.0, labels


def fitted(x: np.ndarray, labels: np.ndarray, parts: list[np.ndarray]) -> LinearReadOut:
    moments = [labelled_moments(x[part], labels[part], CLASSES) for part in parts]
    found = ridge_read_out(reduce(Moments.merge, moments, Moments.zero(12 + CLASSES)), CLASSES)
    assert found is not None
    return found


@pytest.mark.parametrize("seed", range(4))
def test_shards_give_the_table_that_one_pass_over_rows_gives(seed: int) -> None:
    x, labels = clusters(seed)
    (whole,) = usable_information(
        torch.from_numpy(x)[None], torch.from_numpy(labels)[None], seeds=[seed]
    )
    order = row_orders([seed], 1000, permutations=0, device=torch.device("cpu"))[0, 0].numpy()
    owner = np.random.default_rng([seed, 1]).integers(0, 7, 1000)
    shards = [np.flatnonzero(owner == i) for i in range(8)]
    halves = [order[:500], order[500:]]
    table = np.zeros((CLASSES, CLASSES))
    for fit, held in (halves, halves[::-1]):
        read_out = fitted(x, labels, [np.intersect1d(shard, fit) for shard in shards])
        for shard in shards:
            part = np.intersect1d(shard, held)
            table += read_out.table(x[part], labels[part])
    merged = usable_information_of_table(table, d=12, label_bits=3)
    assert merged == whole


def test_rows_that_are_not_finite_are_left_out() -> None:
    x, labels = clusters(0)
    odd = x.copy()
    odd[::50, 3] = np.nan
    kept = np.isfinite(odd).all(1)
    whole, clean = fitted(odd, labels, [np.arange(1000)]), fitted(x, labels, [np.flatnonzero(kept)])
    np.testing.assert_allclose(whole.weights, clean.weights, atol=1e-12)
    assert whole.table(odd, labels).sum() == kept.sum()


def test_moments_without_variation_have_no_read_out() -> None:
    labels = np.arange(100) % CLASSES
    assert ridge_read_out(Moments.zero(9), CLASSES) is None
    assert (
        ridge_read_out(labelled_moments(np.full((100, 3), 0.1), labels, CLASSES), CLASSES) is None
    )
    assert ridge_read_out(labelled_moments(np.zeros((100, 0)), labels, CLASSES), CLASSES) is None
    broken = Moments(100.0, np.zeros(9), np.full((9, 9), np.nan))
    assert ridge_read_out(broken, CLASSES) is None


def test_wrong_shapes_are_refused() -> None:
    x, labels = clusters(0)
    read_out = fitted(x, labels, [np.arange(1000)])
    with pytest.raises(ValueError, match="x, labels"):
        read_out.table(x[:, :3], labels)
    with pytest.raises(ValueError, match="labels: expected 0 to 5"):
        read_out.table(x, labels + 1)
    with pytest.raises(ValueError, match="x, labels"):
        labelled_moments(x, labels[:5], CLASSES)
    with pytest.raises(ValueError, match="labels: expected 0 to 4"):
        labelled_moments(x, labels, 5)
    with pytest.raises(ValueError, match="classes"):
        ridge_read_out(Moments.zero(3), 4)
