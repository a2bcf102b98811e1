"""Activation functions: sums and histogram against closed forms on the same sampled elements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.activations import ACT2FN

from infoplane.agent.probes.activation import function_of
from infoplane.agent.sampling import RowSampling
from infoplane.agent.sketch import ACT_ELEMENTS
from infoplane.estimators.state import LogHistogram
from infoplane.wire import from_tensor
from infoplane.wire import infoplane_pb2 as pb


def summaries(tap: pb.TapSketch) -> dict[str, np.ndarray]:
    return {found.name: from_tensor(found.values) for found in tap.summaries}


def watched(model: Any, function: nn.Module) -> list[torch.Tensor]:
    """Put `function` into block 0, and return where its inputs are kept."""
    seen: list[torch.Tensor] = []
    model.blocks[0].act = function
    model.blocks[0].act.register_forward_pre_hook(
        lambda m, args: seen.append(args[0].detach().clone())
    )
    return seen


@pytest.mark.parametrize(
    "function", [nn.ReLU(inplace=True), nn.GELU(), nn.Tanh(), nn.LeakyReLU(0.1)]
)
def test_sums_and_histogram_are_those_of_the_sampled_rows(
    make_model: Callable[..., Any], make_loop: Callable[..., Any], function: nn.Module
) -> None:
    model = make_model()
    seen = watched(model, function)
    loop = make_loop(model, **{"probes.activation": "on"})
    loop.step(micros=2)
    tap = loop.taps()[0]["00/activation"]
    keys = RowSampling(0, 0, 128).keys(0, 0, np.arange(64, dtype=np.uint64))
    x = seen[0].flatten(0, 1)[np.argsort(keys)][: ACT_ELEMENTS // 48].double()
    y = function(x.clone())
    found = summaries(tap)
    expected = {
        "n": x.numel(),
        "nonfinite": 0,
        "input_sum": x.sum(),
        "input_square": x.square().sum(),
        "output_sum": y.sum(),
        "output_square": y.square().sum(),
        "product": (x * y).sum(),
        "input_negative": (x < 0).sum(),
        "output_negative": (y < 0).sum(),
        "output_zero": (y == 0).sum(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [float(value)], rtol=1e-5, err_msg=name)
    histogram = LogHistogram.of_values(x.numpy().ravel(), signed=True).counts
    assert np.abs(found["inputs"][:-1] - histogram).sum() <= 4, "more than values on an edge"
    assert found["inputs"].sum() == x.numel()
    assert tap.width == 48


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.ReLU(), "relu"),
        (nn.GELU(), "gelu"),
        (nn.GELU("tanh"), "gelu_tanh"),
        (nn.SiLU(), "silu"),
        (ACT2FN["gelu_new"], "gelu_tanh"),
        (ACT2FN["silu"], "silu"),
        (nn.Hardswish(), "unknown"),
    ],
)
def test_records_name_the_function(module: nn.Module, name: str) -> None:
    assert function_of(module) == name


def test_the_slope_is_the_mean_derivative_of_gaussian_inputs() -> None:
    """Stein: E f'(x) = Cov(x, f(x)) / Var x; for ReLU of a normal with mean m that is Phi(m)."""
    from infoplane.agent.probes.activation import _FIELDS, _sums

    x = torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)) + 0.5
    out = _sums(x[None], x[None].relu())[0]
    s = dict(zip(_FIELDS, out.tolist(), strict=True))
    n = s["n"]
    covariance = s["product"] / n - s["input_sum"] * s["output_sum"] / n**2
    variance = s["input_square"] / n - (s["input_sum"] / n) ** 2
    normal = torch.distributions.Normal(0.0, 1.0)
    assert covariance / variance == pytest.approx(normal.cdf(torch.tensor(0.5)).item(), abs=2e-3)
    assert s["output_zero"] / n == pytest.approx(1 - normal.cdf(torch.tensor(0.5)).item(), abs=2e-3)


def test_elements_that_are_not_finite_are_counted_apart() -> None:
    from infoplane.agent.probes.activation import _FIELDS, _sums

    x = torch.tensor([[1.0, torch.nan, torch.inf, -2.0]])
    out = _sums(x, x.relu())[0]
    s = dict(zip(_FIELDS, out.tolist(), strict=True))
    assert (s["n"], s["nonfinite"]) == (2, 2)
    assert (s["input_sum"], s["output_sum"], s["product"], s["output_zero"]) == (-1, 1, 1, 1)


@pytest.mark.parametrize("reentrant", [True, False])
def test_recomputed_forwards_and_other_micro_batches_are_not_counted(
    make_model: Callable[..., Any], make_loop: Callable[..., Any], reentrant: bool
) -> None:
    model = make_model()
    model.run = lambda block, x: checkpoint(block, x, use_reentrant=reentrant)
    loop = make_loop(model, **{"probes.activation": "on"})
    loop.step(micros=2)
    loop.step()
    for taps in loop.taps().values():
        assert summaries(taps["02/activation"])["n"] == [64 * 48]


def test_it_is_off_unless_somebody_asks(make_loop: Callable[..., Any]) -> None:
    assert "activation" not in make_loop().monitor.units


def test_a_model_without_activation_modules_says_so(
    make_model: Callable[..., Any],
    make_loop: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "infoplane.agent")
    model = make_model()
    for block in model.blocks:
        block.act = nn.Sequential(nn.Identity())  # no activation by its class, and none by its name
    loop = make_loop(model, **{"probes.activation": "on"})
    assert "activation" not in loop.monitor.units
    assert "activation not captured: 3 of 3 blocks" in caplog.text
