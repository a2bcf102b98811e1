"""Entropy that an activation function adds to what goes through it.

For a monotone f, h(f(X)) = h(X) + E ln |f'(X)| ("A Method on Searching Better Activation
Functions", 2024, section 3), so that E ln |f'(X)| is a gain in nats, known from the histogram of
the inputs alone. Where f is not monotone (GELU below -0.75, SiLU below -1.28, CRReLU below -1),
two inputs share an output. Then the gain is an upper bound: h(f(X)) is less by the entropy of
which input it was, at most ln 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtr
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.state.histogram import LogBuckets, LogHistogram

ESTIMATOR = "activation_gain"
VERSION = 1
POINTS = 16
"""Places inside a bucket at which the slope is looked at."""
FLAT = 2.0**-24
"""A slope below this counts as 0: in float32 the output does not move."""
SATURATED = 1e4
"""Beyond this no slope changes."""
RISE = 0.01
"""The e of CRReLU, as its training starts."""
FloatArray = npt.NDArray[np.float64]
_CUBIC: Final = 0.044715  # of the tanh form of GELU


def _density(x: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi))


def _gelu(x: FloatArray) -> FloatArray:
    return np.asarray(ndtr(x) + x * _density(x))


def _gelu_tanh(x: FloatArray) -> FloatArray:
    root = math.sqrt(2.0 / math.pi)
    twice = 2.0 * root * (x + _CUBIC * x**3)
    gate = expit(twice)
    slope = 2.0 * root * (1.0 + 3.0 * _CUBIC * x * x)
    return np.asarray(gate + x * slope * gate * expit(-twice))


def _silu(x: FloatArray) -> FloatArray:
    gate = expit(x)
    return np.asarray(gate + x * gate * expit(-x))


def _tanh(x: FloatArray) -> FloatArray:
    return np.asarray(4.0 * expit(2.0 * x) * expit(-2.0 * x))


def _sigmoid(x: FloatArray) -> FloatArray:
    return np.asarray(expit(x) * expit(-x))


def _relu(x: FloatArray) -> FloatArray:
    return (x > 0).astype(np.float64)


def crrelu(x: FloatArray, e: float = RISE) -> FloatArray:
    """Return max(0, x) + e x exp(-x^2 / 2), which the paper finds from ReLU; any shape."""
    return np.asarray(np.maximum(x, 0.0) + e * x * np.exp(-0.5 * x * x))


def _crrelu(x: FloatArray) -> FloatArray:
    return np.asarray(_relu(x) + RISE * (1.0 - x * x) * np.exp(-0.5 * x * x))


SLOPES: Final[dict[str, Callable[[FloatArray], FloatArray]]] = {
    "identity": np.ones_like,
    "relu": _relu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "normal_cdf": _density,
    "crrelu": _crrelu,
}
"""Derivatives. ``normal_cdf`` is the paper's worst function of normal inputs: uniform outputs."""


def activation_gain(inputs: Sequence[LogHistogram], function: str) -> list[Estimate]:
    """Return E ln |f'(X)| in nats for every histogram of inputs.

    Over the inputs whose slope is not 0 (2^-24 or more). The share of the others, all of ReLU's
    that are not above 0, is ``dead`` in ``parameters``, as ln 0 would swallow every other number:
    h(f(X) | live) = h(X | live) + gain. So ReLU's gain is 0, and ``dead`` is what to look at.
    Values of a bucket are spread evenly over it; those of the zero bucket are 0.

    Null: none. Ceiling: none. Band: analytic, value +- 1.96 standard errors for independent
    elements. Elements of one token are not: it is too narrow.

    Undefined: ``"n"`` below 2 finite inputs, ``"nan"`` when none of some is finite, ``"constant"``
    when no slope is above 0. Infinities and NaN beside other values are left out, as in
    `activation_entropy`.

    Args:
        inputs: Signed histograms.
        function: One of `SLOPES`.

    Returns:
        One estimate per histogram. Cost O(769 x 16) a call and O(769) a histogram.

    Raises:
        ValueError: If the function is not known, or a histogram has no sign.
    """
    _check(function)
    if not all(one.signed for one in inputs):
        raise ValueError("inputs: expected signed histograms, got one without a sign")
    sums = _sums_of_buckets(function)
    found = []
    for one in inputs:
        alive, log, square = (float(one.counts @ row) for row in sums)
        found.append(_estimate(function, one.total, one.nonfinite, alive, log, square))
    return found


def activation_gain_of_values(x: Tensor, function: str) -> list[Estimate]:
    """Return `activation_gain` of the rows of ``x (t, n)``, without buckets; on the CPU, float64.

    Cost O(t n).

    Raises:
        ValueError: If x has not two dimensions, or the function is not known.
    """
    _check(function)
    if x.ndim != 2:
        raise ValueError(f"x: expected shape (t, n), got {tuple(x.shape)}")
    values = x.detach().cpu().double().numpy()
    is_finite = np.isfinite(values)
    alive, log = _log_slopes(np.where(is_finite, values, 0.0), function)
    alive = alive & is_finite
    log = np.where(alive, log, 0.0)
    held = is_finite.sum(1)
    return [
        _estimate(function, int(n), x.shape[1] - int(n), float(live), float(one), float(square))
        for n, live, one, square in zip(
            held, alive.sum(1), log.sum(1), np.square(log).sum(1), strict=True
        )
    ]


def _log_slopes(x: FloatArray, function: str) -> tuple[npt.NDArray[np.bool_], FloatArray]:
    """Return where f has a slope, and ln |f'| there, 0 elsewhere."""
    slope = np.abs(SLOPES[function](np.clip(x, -SATURATED, SATURATED)))
    return slope >= FLAT, np.log(np.where(slope >= FLAT, slope, 1.0))


def _sums_of_buckets(function: str) -> FloatArray:
    """Return a bucket's mean of 1, ln |f'| and ln^2 |f'| over its live part; ``(3, buckets)``."""
    buckets = LogBuckets(signed=True)
    edges = buckets.edges()
    inner = (np.arange(POINTS) + 0.5) / POINTS
    x = edges[:-1, None] + inner * np.diff(edges)[:, None]
    # Nearly all of that bucket is exactly 0, such as the output of a ReLU before.
    x[buckets.zero_index] = 0.0
    is_live, log = _log_slopes(x, function)
    return np.stack([is_live.mean(1), log.mean(1), np.square(log).mean(1)])


def _check(function: str) -> None:
    if function not in SLOPES:
        raise ValueError(f"function: expected one of {', '.join(SLOPES)}, got {function!r}")


def _estimate(
    function: str, n: int, nonfinite: int, alive: float, log: float, square: float
) -> Estimate:
    """Return the estimate of sums over the live ones of n finite inputs."""
    parameters: dict[str, float | int | str] = {"function": function}
    reason = "nan" if n == 0 and nonfinite else "n" if n < 2 else "constant" if alive <= 0 else ""
    if reason:
        return Estimate.missing(
            reason, unit="nats", n=n, estimator=ESTIMATOR, version=VERSION, parameters=parameters
        )
    value = log / alive
    error = math.sqrt(max(square / alive - value * value, 0.0) / alive)
    return Estimate(
        value=value,
        unit="nats",
        n=n,
        estimator=ESTIMATOR,
        version=VERSION,
        band=(value - 1.96 * error, value + 1.96 * error),
        parameters={**parameters, "dead": 1.0 - alive / n},
    )
