from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import ndtr

from infoplane.estimators.entropy.activation import activation_entropy
from infoplane.estimators.entropy.activation_gain import (
    SLOPES,
    activation_gain,
    activation_gain_of_values,
    crrelu,
)
from infoplane.estimators.state import LogHistogram

NORMAL = 0.5 * math.log(2.0 * math.pi * math.e)
FUNCTIONS = {
    "identity": lambda x: x,
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "normal_cdf": torch.special.ndtr,
    "crrelu": lambda x: torch.relu(x) + 0.01 * x * torch.exp(-0.5 * x**2),
}


def normal_histogram(scale: float = 1.0) -> LogHistogram:
    """Return the histogram of 10^12 normal values without sampling error."""
    share = np.diff(ndtr(LogHistogram.empty().buckets.edges() / scale))
    return LogHistogram(np.round(1e12 * share).astype(np.int64))


def spread(values: torch.Tensor) -> float:
    """Return the differential entropy of values by their histogram."""
    return activation_entropy([LogHistogram.of_values(values.numpy())], scale="none")[0].value


@pytest.mark.parametrize("name", sorted(SLOPES))
def test_slopes_are_the_derivatives(name: str):
    x = torch.linspace(-6, 6, 241, dtype=torch.float64)
    x = x[x != 0].requires_grad_()
    (slope,) = torch.autograd.grad(FUNCTIONS[name](x).sum(), x)
    np.testing.assert_allclose(SLOPES[name](x.detach().numpy()), slope.numpy(), atol=1e-12)


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh", "silu", "tanh", "sigmoid"])
def test_gain_of_normal_inputs_is_the_integral(name: str):
    def integrand(x: float) -> float:
        density = math.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return density * math.log(max(abs(float(SLOPES[name](np.array(x)))), 1e-300))

    truth = quad(integrand, -12, 12, points=[-1.2785, -0.7518, 0], limit=400)[0]
    (one,) = activation_gain([normal_histogram()], name)
    assert one.value == pytest.approx(truth, abs=2e-3)
    assert one.parameters["dead"] == pytest.approx(0.0, abs=1e-6)


def test_a_normal_through_its_own_distribution_is_uniform():
    """1.418939 nats before, and 0 after."""
    (one,) = activation_gain([normal_histogram()], "normal_cdf")
    assert pytest.approx(1.418939, abs=1e-6) == NORMAL
    assert NORMAL + one.value == pytest.approx(0.0, abs=2e-3)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "normal_cdf"])
def test_entropy_after_is_entropy_before_and_the_gain(name: str):
    x = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (one,) = activation_gain([LogHistogram.of_values(x.numpy())], name)
    assert spread(x) + one.value == pytest.approx(spread(FUNCTIONS[name](x)), abs=0.02)


@pytest.mark.parametrize("name", ["gelu", "silu", "crrelu"])
def test_where_inputs_share_outputs_the_gain_is_at_most_ln_2_too_high(name: str):
    x = torch.randn(400_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (one,) = activation_gain([LogHistogram.of_values(x.numpy())], name)
    excess = spread(x) + one.value - spread(FUNCTIONS[name](x))
    assert 0.01 < excess < math.log(2)


def test_a_factor_adds_its_logarithm():
    x = torch.randn(50_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert spread(4 * x) - spread(x) == pytest.approx(math.log(4), abs=1e-9)
    (one,) = activation_gain([LogHistogram.of_values(x.numpy())], "identity")
    assert one.value == 0.0
    assert one.band == (0.0, 0.0)


def test_relu_passes_half_of_a_normal_and_adds_nothing():
    (one,) = activation_gain([normal_histogram()], "relu")
    assert one.value == 0.0
    assert one.parameters["dead"] == pytest.approx(0.5, abs=1e-6)
    (zeros,) = activation_gain([LogHistogram.of_values(np.array([0.0, 0.0, 3.0, -2.0]))], "relu")
    assert zeros.parameters["dead"] == 0.75


def test_a_saturated_function_has_dead_inputs():
    x = torch.tensor([[0.0, 1e30, -1e30, 50.0]], dtype=torch.float64)
    (one,) = activation_gain_of_values(x, "tanh")
    assert (one.value, one.parameters["dead"]) == (0.0, 0.75)
    (other,) = activation_gain([LogHistogram.of_values(x.numpy())], "tanh")
    assert (other.value, other.parameters["dead"]) == (0.0, 0.75)


@pytest.mark.parametrize("name", sorted(SLOPES))
def test_values_and_their_histogram_agree(name: str):
    x = 2.0 * torch.randn(3, 20_000, generator=torch.Generator().manual_seed(3))
    exact = activation_gain_of_values(x, name)
    binned = activation_gain([LogHistogram.of_values(row.numpy()) for row in x], name)
    for a, b in zip(exact, binned, strict=True):
        assert a.value == pytest.approx(b.value, abs=0.01)
        assert a.band == pytest.approx(b.band, abs=0.02)
        assert a.parameters["dead"] == pytest.approx(b.parameters["dead"], abs=1e-3)
        assert a.n == b.n == 20_000


def test_the_band_holds_what_other_draws_give():
    x = torch.randn(200, 500, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    (truth,) = activation_gain([normal_histogram()], "sigmoid")
    found = activation_gain_of_values(x, "sigmoid")
    inside = sum(one.band[0] < truth.value < one.band[1] for one in found)
    assert 180 <= inside <= 199


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
    [([], "n"), ([1.0], "n"), ([np.nan, np.inf], "nan"), ([-1.0, -2.0, 0.0], "constant")],
)
def test_inputs_without_a_gain_say_why(x: list[float], reason: str):
    values = np.array(x)
    assert activation_gain([LogHistogram.of_values(values)], "relu")[0].undefined == reason
    assert activation_gain_of_values(torch.tensor([x]), "relu")[0].undefined == reason


def test_values_that_are_not_finite_are_left_out():
    x = torch.tensor([[1.0, -1.0, math.nan, math.inf, 0.5]])
    (one,) = activation_gain_of_values(x, "sigmoid")
    (clean,) = activation_gain_of_values(x[:, [0, 1, 4]], "sigmoid")
    assert one == clean
    assert activation_gain_of_values(torch.zeros(0, 5), "sigmoid") == []


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="function: expected one of identity"):
        activation_gain([], "mish")
    with pytest.raises(ValueError, match="signed"):
        activation_gain([LogHistogram.empty(signed=False)], "gelu")
    with pytest.raises(ValueError, match=r"\(t, n\)"):
        activation_gain_of_values(torch.zeros(3), "gelu")
