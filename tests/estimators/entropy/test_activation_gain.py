from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from infoplane.estimators.entropy.activation_gain import (
    SLOPES,
    activation_gain,
    activation_gain_of_values,
    crrelu,
)
from infoplane.estimators.state import LogHistogram

FUNCTIONS = {
    "identity": lambda x: x,
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "crrelu": lambda x: torch.relu(x) + 0.01 * x * torch.exp(-0.5 * x**2),
}


@pytest.mark.parametrize("name", sorted(SLOPES))
def test_slopes_are_the_derivatives(name: str):
    x = torch.linspace(-6, 6, 241, dtype=torch.float64)
    x = x[x != 0].requires_grad_()
    (slope,) = torch.autograd.grad(FUNCTIONS[name](x).sum(), x)
    np.testing.assert_allclose(SLOPES[name](x.detach().numpy()), slope.numpy(), atol=1e-9)


@pytest.mark.parametrize("name", ["gelu", "silu", "tanh", "sigmoid"])
def test_gain_of_normal_inputs_is_the_integral(name: str):
    def integrand(x: float) -> float:
        density = math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return density * math.log(max(abs(float(SLOPES[name](np.array(x)))), 1e-300))

    truth = quad(integrand, -12, 12, points=[-1.2785, -0.7518, 0], limit=400)[0]
    x = np.random.default_rng(0).normal(size=(1, 200_000))
    (one,) = activation_gain_of_values(x, name)
    assert one.value == pytest.approx(truth, abs=0.02)
    assert one.band[0] < one.value < one.band[1]
    assert one.parameters["dead"] == 0.0


def test_relu_passes_half_of_a_normal_and_adds_nothing():
    x = np.random.default_rng(1).normal(size=(2, 50_000))
    for one in activation_gain_of_values(x, "relu"):
        assert one.value == 0.0
        assert one.parameters["dead"] == pytest.approx(0.5, abs=0.01)


def test_a_normal_through_its_own_distribution_is_uniform():
    """h(X) = 1.418939; the gain of Phi is minus that, and the uniform's entropy 0. Sigmoid(1.702 x) is near Phi."""
    x = np.random.default_rng(2).normal(size=(1, 200_000))
    (one,) = activation_gain_of_values(1.702 * x, "sigmoid")
    assert 0.5 * math.log(2 * math.pi * math.e) == pytest.approx(1.418939, abs=1e-6)
    assert one.value + math.log(1.702) + 1.418939 == pytest.approx(0.0, abs=0.02)


def test_crrelu():
    x = np.linspace(-3, 3, 6001)
    found = crrelu(x, 0.1)
    assert found.min() == pytest.approx(-0.060653, abs=1e-6)
    assert x[found.argmin()] == pytest.approx(-1.0, abs=1e-3)
    assert crrelu(np.array([1.0]), 0.1)[0] == pytest.approx(1.060653, abs=1e-6)


def test_shards_give_what_the_whole_gives():
    x = np.random.default_rng(3).normal(size=3000)
    whole = LogHistogram.of_values(x)
    parts = LogHistogram.empty()
    for part in np.array_split(x, 7):
        parts = parts.merge(LogHistogram.of_values(part))
    assert activation_gain([parts], "gelu") == activation_gain([whole], "gelu")


@pytest.mark.parametrize(
    ("x", "reason"),
    [([], "n"), ([1.0], "n"), ([1.0, np.nan], "nan"), ([-1.0, -2.0], "constant")],
)
def test_inputs_without_a_gain_say_why(x: list[float], reason: str):
    (one,) = activation_gain([LogHistogram.of_values(np.array(x))], "relu")
    assert one.undefined == reason


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="function: expected one of identity"):
        activation_gain([], "mish")
    with pytest.raises(ValueError, match="signed"):
        activation_gain([LogHistogram.empty(signed=False)], "gelu")
    with pytest.raises(ValueError, match=r"\(t, n\)"):
        activation_gain_of_values(np.zeros(3), "gelu")
