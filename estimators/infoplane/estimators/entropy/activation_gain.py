"""Entropy that an activation function adds to what goes through it.

For a monotone f, H(f(X)) = H(X) + E ln f'(X) ("A Method on Searching Better Activation Functions", 2024, section 3), so
E ln |f'(X)| is a gain in nats, from the histogram of the inputs alone. Where f is not monotone (GELU and SiLU below
about -0.75 and -1.28) two inputs share an output, and the gain is an upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtr

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.state.histogram import LogBuckets, LogHistogram

ESTIMATOR = "activation_gain"
VERSION = 1
POINTS = 16
"""Places inside a bucket at which the slope is looked at."""
FloatArray = npt.NDArray[np.float64]
_CUBIC: Final = 0.044715  # of the tanh form of GELU


def _gelu(x: FloatArray) -> FloatArray:
    return np.asarray(ndtr(x) + x * np.exp(-0.5 * x**2) / math.sqrt(2 * math.pi))


def _gelu_tanh(x: FloatArray) -> FloatArray:
    root = math.sqrt(2 / math.pi)
    inner = np.clip(root * (x + _CUBIC * x**3), -300.0, 300.0)
    slope = root * (1 + 3 * _CUBIC * x**2)
    return np.asarray(0.5 * (1 + np.tanh(inner)) + 0.5 * x * slope / np.cosh(inner) ** 2)


def _silu(x: FloatArray) -> FloatArray:
    s = expit(x)
    return np.asarray(s * (1 + x * (1 - s)))


def _tanh(x: FloatArray) -> FloatArray:
    return np.asarray(1 / np.cosh(np.clip(x, -300.0, 300.0)) ** 2)


def _sigmoid(x: FloatArray) -> FloatArray:
    return np.asarray(expit(x) * expit(-x))


def _relu(x: FloatArray) -> FloatArray:
    return (x > 0).astype(np.float64)


def crrelu(x: FloatArray, e: float = 0.01) -> FloatArray:
    """Return max(0, x) + e x exp(-x^2 / 2), the function that the paper finds from ReLU."""
    return np.asarray(np.maximum(x, 0.0) + e * x * np.exp(-0.5 * x**2))


def _crrelu(x: FloatArray) -> FloatArray:
    return _relu(x) + 0.01 * (1 - x**2) * np.exp(-0.5 * x**2)


SLOPES: Final[dict[str, Callable[[FloatArray], FloatArray]]] = {
    "identity": np.ones_like,
    "relu": _relu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "crrelu": _crrelu,
}


def activation_gain(inputs: Sequence[LogHistogram], function: str) -> list[Estimate]:
    """Return E ln |f'(X)| in nats for every histogram of inputs.

    Over the inputs whose slope is not 0: the share of the others, all of ReLU's that are not above 0, is ``dead`` in
    ``parameters``, as ln 0 would swallow every other number. So ReLU's gain is 0, and ``dead`` is what to look at.
    Values of a bucket are spread evenly over it; the error is below 0.01 nats for inputs of unit size.

    Null: none. Ceiling: none. Band: value +- 1.96 standard errors for independent elements.

    Undefined: ``"n"`` below 2 elements, ``"nan"`` if any was not finite, ``"constant"`` when no slope is above 0.

    Args:
        inputs: Signed histograms.
        function: One of `SLOPES`.

    Returns:
        One estimate per histogram. Cost O(769 x 16).

    Raises:
        ValueError: If the function is not known, or a histogram has no sign.
    """
    if function not in SLOPES:
        raise ValueError(f"function: expected one of {', '.join(SLOPES)}, got {function!r}")
    if not all(one.signed for one in inputs):
        raise ValueError("inputs: expected signed histograms, got one without a sign")
    logs, shares = _slopes_of_buckets(function)
    return [_gain(one, function, logs, shares) for one in inputs]


def activation_gain_of_values(x: npt.NDArray[Any], function: str) -> list[Estimate]:
    """Return `activation_gain` of the rows of ``x (t, n)``.

    Raises:
        ValueError: If x has not two dimensions, or the function is not known.
    """
    if x.ndim != 2:
        raise ValueError(f"x: expected shape (t, n), got {x.shape}")
    return activation_gain([LogHistogram.of_values(row) for row in x], function)


def _slopes_of_buckets(function: str) -> tuple[FloatArray, FloatArray]:
    """Return for every bucket the moments of ln |f'| over its live part ``(2, buckets)``, and the live part's share."""
    edges = LogBuckets(signed=True).edges()
    inner = (np.arange(POINTS) + 0.5) / POINTS
    x = edges[:-1, None] + inner * np.diff(edges)[:, None]
    slope = np.abs(SLOPES[function](x))
    is_live = slope > 0
    log = np.where(is_live, np.log(np.maximum(slope, 1e-300)), 0.0)
    count = np.maximum(is_live.sum(1), 1)
    return np.stack([log.sum(1), (log**2).sum(1)]) / count, is_live.mean(1)


def _gain(one: LogHistogram, function: str, logs: FloatArray, shares: FloatArray) -> Estimate:
    counts = one.counts.astype(np.float64)
    n = int(counts.sum())
    live = counts * shares
    alive = float(live.sum())
    parameters: dict[str, float | int | str] = {"function": function}
    reason = "nan" if one.nonfinite else "n" if n < 2 else "constant" if alive <= 0 else ""
    if reason:
        return Estimate.missing(
            reason, unit="nats", n=n, estimator=ESTIMATOR, version=VERSION, parameters=parameters
        )
    value, square = (float(live @ row) / alive for row in logs)
    error = math.sqrt(max(square - value**2, 0.0) / alive)
    return Estimate(
        value, "nats", n, ESTIMATOR, VERSION, band=(value - 1.96 * error, value + 1.96 * error),
        parameters={**parameters, "dead": round(1.0 - alive / n, 6)},
    )  # fmt: skip
