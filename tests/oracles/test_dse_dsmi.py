"""Diffusion entropy and information against the package of the paper's authors."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from oracle_environment import run_oracle

from infoplane.estimators.geometry.diffusion_entropy import diffusion_entropy
from infoplane.estimators.geometry.diffusion_information import (
    ClassSets,
    diffusion_mi,
    information_of_sets,
)
from infoplane.estimators.geometry.diffusion_kernel import median_distance

pytestmark = pytest.mark.oracle

REQUIREMENTS = ["dse-dsmi==1.1"]
POWERS = [1, 1, 1, 2]
RATIOS = [0.5, 0.25, 1.5, 0.5]
REPETITIONS = 5


def families(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return rows and labels: clusters, heavy tails, a decaying spectrum, uniform rows."""
    r = np.random.default_rng(seed)
    labels = [r.integers(0, c, n) for c, n in ((3, 400), (5, 300), (2, 256), (10, 501))]
    centres = r.normal(size=(10, 24)) * 2
    rows = [
        centres[labels[0]] + r.normal(size=(400, 24)),
        r.standard_t(3, size=(300, 8)) + labels[1][:, None],
        r.normal(size=(256, 64)) * np.arange(1, 65) ** -1.0 * (1 + labels[2][:, None]),
        r.random((501, 100)),
    ]
    return list(zip(rows, labels, strict=True))


@pytest.fixture(scope="module")
def reference() -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray, dict[str, np.ndarray]]:
    """Return fresh inputs, their bandwidths, and what the package says of them."""
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"inputs from seed {seed}")
    inputs = families(seed)
    medians = [float(median_distance(torch.from_numpy(x)[None])) for x, _ in inputs]
    bandwidths = np.outer(medians, RATIOS)
    arrays: dict[str, np.ndarray | int | list[int]] = {
        "count": len(inputs),
        "bandwidths": bandwidths,
        "powers": POWERS,
        "repetitions": REPETITIONS,
    }
    for i, (x, labels) in enumerate(inputs):
        arrays |= {f"x{i}": x, f"labels{i}": labels}
    return inputs, bandwidths, run_oracle("dse_dsmi", REQUIREMENTS, arrays)


def test_entropy_agrees(reference) -> None:
    inputs, bandwidths, found = reference
    for i, (x, _) in enumerate(inputs):
        ours = [
            diffusion_entropy(torch.from_numpy(x)[None], bandwidths=[s], power=t, seeds=[0])[0]
            for s, t in zip(bandwidths[i], POWERS, strict=True)
        ]
        assert [e.value for e in ours] == pytest.approx(found["entropies"][i].tolist(), rel=1e-5)


def test_information_of_the_packages_own_draws_agrees(reference) -> None:
    inputs, bandwidths, found = reference
    for i, (x, labels) in enumerate(inputs):
        sets = []
        for name, size in zip(*np.unique(labels, return_counts=True), strict=True):
            members = torch.from_numpy(np.flatnonzero(labels == name))
            draws = torch.from_numpy(found[f"draws{i}_{name}"])
            sets.append(ClassSets(size / labels.size, members, draws, draws[:0]))
        ((value, _),) = information_of_sets(
            torch.from_numpy(x)[None],
            torch.tensor([bandwidths[i][0]]),
            {0: sets},
            kernel="walk",
            power=1,
        ).values()
        assert value == pytest.approx(float(found["information"][i]), rel=1e-5, abs=1e-8)


def test_information_of_our_draws_agrees(reference) -> None:
    """The rows are the same, so that only the random sets differ: both means are of few draws."""
    inputs, bandwidths, found = reference
    for i, (x, labels) in enumerate(inputs):
        values = [
            diffusion_mi(
                torch.from_numpy(x)[None],
                torch.from_numpy(labels)[None],
                bandwidths=[bandwidths[i][0]],
                seeds=[seed],
                permutations=0,
            )[0].value
            for seed in range(8)
        ]
        # The package's own value is one more draw of the same distribution.
        apart = abs(np.mean(values) - found["information"][i])
        assert apart <= 6.0 * np.std(values, ddof=1) + 1e-9
