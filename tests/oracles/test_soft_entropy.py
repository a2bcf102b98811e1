"""Soft entropy against the package soft-entropy 0.1.5 on the same reference points."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracle_environment import run_oracle

from infoplane.estimators.entropy.soft import soft_entropy, soft_mi
from infoplane.estimators.entropy.soft_verdicts import soft_entropy_of_counts, soft_mi_of_counts
from infoplane.estimators.state.soft_counts import SoftCounts
from infoplane.estimators.state.soft_reference import SoftReference

pytestmark = pytest.mark.oracle
# The package imports tqdm without asking for it.
REQUIREMENTS = [
    "soft-entropy==0.1.5",
    "torch==2.8.0",
    "numpy==2.2.6",
    "scipy==1.15.3",
    "tqdm==4.67.1",
]
CASES = {"isotropic": (128, 500, 3.0), "clusters": (128, 10, 0.1), "narrow": (32, 40, 1.0)}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_package(name: str) -> None:
    d, classes, spread = CASES[name]
    generator = np.random.default_rng(d + classes)
    labels = generator.integers(0, classes, 2048)
    x = generator.normal(size=(classes, d))[labels] + spread * generator.normal(size=(2048, d))
    x = x.astype(np.float32)
    reference = SoftReference(d, points=100, seed=3)
    theirs = run_oracle(
        "soft_entropy",
        REQUIREMENTS,
        {
            "x": x,
            "labels": labels,
            "points": 100,
            "seed": 3,
            "directions": reference.directions(),
        },
    )
    # The same seed draws the package's points, as its numpy form has them.
    np.testing.assert_allclose(theirs["drawn"], reference.directions(), atol=1e-6)
    rows, classes_of_rows = torch.from_numpy(x)[None], torch.from_numpy(labels)[None]
    (entropy,) = soft_entropy(rows, reference_seed=3)
    (information,) = soft_mi(rows, classes_of_rows, seeds=[0], reference_seed=3)
    counts = SoftCounts.of_rows(x, labels, reference=reference)
    for backend in ("numpy", "torch"):
        assert entropy.value == pytest.approx(float(theirs[f"{backend}_entropy"]), abs=1e-5)
        expected = float(theirs[f"{backend}_information"])
        assert information.parameters["raw"] == pytest.approx(expected, abs=1e-5)
        assert soft_mi_of_counts(counts).value == pytest.approx(expected, abs=1e-5)
        assert soft_entropy_of_counts(counts).value == pytest.approx(
            float(theirs[f"{backend}_entropy"]), abs=1e-5
        )
    temperatures = [SoftReference(w).temperature() for w in (8, 32, 128, 512, 2048)]
    np.testing.assert_allclose(temperatures, theirs["temperatures"], rtol=1e-8)
    exact = [SoftReference(w, calibration="exact").temperature() for w in (3, 8, 32, 128)]
    np.testing.assert_allclose(exact, theirs["exact_temperatures"], rtol=1e-5)
