"""Activation entropy: Gaussians, rectifiers, spikes, nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from infoplane.estimators import activation_dead_ratio, activation_entropy
from infoplane.estimators.entropy.activation import GAUSSIAN_NATS, Scale
from infoplane.estimators.state import LogHistogram


def histogram(x: np.ndarray) -> LogHistogram:
    """Return the signed histogram."""
    return LogHistogram.of_values(x)


NORMAL = np.random.default_rng(0).normal(size=100_000)


@pytest.mark.parametrize("scale", ["rms", "std", "none"])
def test_standard_normal(scale: Scale) -> None:
    (estimate,) = activation_entropy([histogram(NORMAL)], scale=scale)
    assert estimate.value == pytest.approx(1.418939, abs=0.02)
    assert estimate.parameters["scale"] == scale


def test_scale_moves_only_the_unscaled_form() -> None:
    items = [histogram(NORMAL), histogram(1000.0 * NORMAL)]
    a, b = activation_entropy(items)
    assert a.value == pytest.approx(b.value, abs=0.005)
    a, b = activation_entropy(items, scale="none")
    assert b.value - a.value == pytest.approx(math.log(1000.0), abs=0.005)


def test_uniform_and_rectified() -> None:
    uniform = np.random.default_rng(1).random(100_000)
    (estimate,) = activation_entropy([histogram(uniform)])
    assert estimate.value == pytest.approx(math.log(math.sqrt(3.0)), abs=0.02)
    rectified = histogram(np.maximum(NORMAL, 0.0))
    (estimate,), (dead,) = activation_entropy([rectified]), activation_dead_ratio([rectified])
    assert dead.value == pytest.approx(0.5, abs=0.01)
    assert estimate.value == pytest.approx(
        math.log(2) + 0.5 * (GAUSSIAN_NATS - math.log(2)), abs=0.02
    )
    assert estimate.ceiling is not None
    assert estimate.value <= estimate.ceiling


def test_degenerate_histograms() -> None:
    items = [
        LogHistogram.empty(),
        histogram(np.array([np.nan, np.inf])),
        histogram(np.zeros(5)),
        histogram(np.full(9, 3.0)),
        histogram(np.array([np.nan, 1.0, -1.0])),
    ]
    estimates = activation_entropy(items)
    assert [e.undefined for e in estimates] == ["n", "nan", "", "", ""]
    assert estimates[2].value == 0.0
    assert estimates[3].saturated
    assert math.isfinite(estimates[3].value)
    assert [e.undefined for e in activation_dead_ratio(items)] == ["n", "nan", "", "", ""]
    assert activation_dead_ratio(items)[2].value == 1.0
    assert activation_entropy([items[2]], scale="std")[0].undefined == "constant"
    assert all(math.isfinite(e.value) for e in activation_entropy(items[3:], scale="std"))
