"""Diffusion spectral entropy: how many directions a random walk on the rows keeps apart.

"Assessing Neural Network Representations During Training Using Noise-Resilient Diffusion Spectral
Entropy" (Liao et al., 2023). Not a Shannon entropy of the data: it depends on the number of rows
and on the bandwidth, so hold both fixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from scipy.stats import t as student
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.geometry.diffusion_kernel import (
    Kernel,
    bandwidths_of,
    finite_items,
    gram,
    normalise,
    spectral_entropy,
)
from infoplane.estimators.geometry.lanczos import (
    DEFLATED,
    PROBES,
    STEPS,
    entropy_by_quadrature,
)
from infoplane.estimators.mutual_information.verdicts import SATURATION, constant_items

ESTIMATOR = "diffusion_entropy"
VERSION = 1
EXACT_ROWS = 4096
"""Rows up to which ``"auto"`` computes all eigenvalues."""
BAND_ROWS = 512
"""Most rows of a block that the band rests on; below 2048 rows a block is a quarter."""
MIN_BAND_ROWS = 16
CHUNK_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 28}
"""Elements of the matrices that are held at a time."""

Method = Literal["auto", "exact", "lanczos"]


@dataclass(frozen=True, slots=True)
class _Value:
    """Bits, and half the width of the band where there is one."""

    bits: float
    half: float | None


def diffusion_entropy(
    x: Tensor,
    *,
    bandwidths: Sequence[float] | None,
    seeds: Sequence[int],
    kernel: Kernel = "walk",
    power: float = 1,
    method: Method = "auto",
    rows: int | None = None,
    band: bool = True,
) -> list[Estimate]:
    """Return the diffusion spectral entropy in bits of every item.

    -sum a log2 a with a = |l|^power over their sum, l the eigenvalues of the random walk on the
    rows whose steps are Gaussian with the bandwidth as standard deviation. m groups of equal
    size, far apart and each within a bandwidth, give log2 m. ``"walk"`` is what the reference
    package computes; ``"anisotropic"`` is the paper's operator, which first divides the
    kernel by the root of the density at both ends.

    Methods: ``"exact"`` computes all eigenvalues; ``"lanczos"`` needs only products with the
    operator in float32 (power 1 only), and is within 0.02 bit of exact at n = 4096 (measured on
    six families, `docs/estimators.md`); ``"auto"`` is exact up to 4096 rows or with another
    power. The method that ran is in ``parameters``.

    Null: none; there is nothing the rows could be independent of. Ceiling: log2 n; saturated
    above 0.8 of it, where most rows are further than a bandwidth from all others: the
    bandwidth is too small for n. Band: value +- t s / sqrt(m), s the standard deviation of the
    entropies of m disjoint runs of rows (m = 4, or n / 512 when more), t Student's 97.5 %
    quantile, plus the probes' error for lanczos. It takes the spread to fall as the root of
    the rows; runs keep correlated neighbours together. None when a run has under 16 rows, and
    when saturated, since runs are nearer to their ceiling and vary too little.

    Undefined: ``"n"`` below 2 rows, ``"nan"``, ``"bandwidth"`` when a given one is not a
    positive number; without given ones ``"constant"``, and ``"duplicates"`` when half of the
    distances are 0. With a given bandwidth a constant item is 0 bits.

    Args:
        x: Shape ``(t, n, d)``.
        bandwidths: One per item, e.g. `median_distance` of a reference window; None takes the
            median of the item itself, and a change of scale is then invisible.
        seeds: One per item, for the probes of lanczos.
        kernel: Normalisation.
        power: Steps of the walk.
        method: How the spectrum is found.
        rows: Use the first ``rows`` rows only; all when absent or more than n. A setting of the
            metric: with half of the rows it costs an eighth.
        band: Compute the band, a tenth of exact's time.

    Returns:
        ``t`` estimates. ``parameters`` hold the number of rows, the bandwidth and its ratio to
        the item's own median distance. Cost O(t (n^2 d + 4/3 n^3)), lanczos O(t n^2 (d + 800)); float64
        for the distances and for exact.

    Raises:
        ValueError: If shapes or the number of seeds or bandwidths do not fit, for an unknown
            kernel or method, for a power or rows not above 0, and for lanczos with another power than 1.
    """
    _check(x, bandwidths, seeds, kernel, power, method, rows)
    x = x if rows is None else x[:, :rows]
    t, n, d = x.shape
    if method == "auto":
        method = "exact" if n <= EXACT_ROWS or power != 1 else "lanczos"
    scale, median = bandwidths_of(x, bandwidths)
    reasons = undefined_reasons(x, scale, given=bandwidths is not None)
    held = [i for i in range(t) if not reasons[i]]
    values = _values(x[held], scale[held], [seeds[i] for i in held], kernel, power, method, band)
    settings: dict[str, float | int | str] = {
        "d": d,
        "rows": n,
        "kernel": kernel,
        "power": power,
        "method": method,
        "bandwidth_source": "window" if bandwidths is None else "given",
    }
    if method == "lanczos":
        settings |= {"probes": PROBES, "steps": STEPS, "deflated": DEFLATED}
    by_item = dict(zip(held, values, strict=True))
    return [
        _estimate(by_item[i], n, settings | bandwidth_parameters(scale[i], median[i]))
        if i in by_item
        else Estimate.missing(
            reasons[i],
            unit="bits",
            n=n,
            estimator=ESTIMATOR,
            version=VERSION,
            parameters=settings,
        )
        for i in range(t)
    ]


def undefined_reasons(x: Tensor, scale: Tensor, *, given: bool) -> list[str]:
    """Return per item why it has no spectrum, or ``""``."""
    if x.shape[1] < 2:
        return ["n"] * x.shape[0]
    flags = zip(finite_items(x).tolist(), constant_items(x), scale.isfinite().tolist(), strict=True)
    return [
        "nan"
        if not finite
        else ""
        if usable
        else "bandwidth"
        if given
        else "constant"
        if flat
        else "duplicates"
        for finite, flat, usable in flags
    ]


def bandwidth_parameters(scale: Tensor, median: Tensor) -> dict[str, float | int | str]:
    """Return the bandwidth, and its ratio to the item's own median where that is not 0."""
    found: dict[str, float | int | str] = {"bandwidth": float(scale)}
    if float(median) > 0:
        found["bandwidth_over_median"] = float(scale / median)
    return found


def _check(
    x: Tensor,
    bandwidths: Sequence[float] | None,
    seeds: Sequence[int],
    kernel: str,
    power: float,
    method: str,
    rows: int | None,
) -> None:
    check_items(x, bandwidths, seeds, kernel, power)
    if method not in get_args(Method):
        raise ValueError(f"method: expected one of {get_args(Method)}, got {method!r}")
    if method == "lanczos" and power != 1:
        raise ValueError(f"power: expected 1 for lanczos, got {power}")
    if rows is not None and rows < 1:
        raise ValueError(f"rows: expected a positive number, got {rows}")


def check_items(
    x: Tensor, bandwidths: Sequence[float] | None, seeds: Sequence[int], kernel: str, power: float
) -> None:
    """Raise ValueError when the arguments that all diffusion estimators share do not fit."""
    if x.ndim != 3:
        raise ValueError(f"x: expected (t, n, d), got {tuple(x.shape)}")
    if len(seeds) != x.shape[0]:
        raise ValueError(f"seeds: expected {x.shape[0]}, one per item, got {len(seeds)}")
    if bandwidths is not None and len(bandwidths) != x.shape[0]:
        raise ValueError(f"bandwidths: expected {x.shape[0]}, one per item, got {len(bandwidths)}")
    if kernel not in get_args(Kernel):
        raise ValueError(f"kernel: expected one of {get_args(Kernel)}, got {kernel!r}")
    if not power > 0:
        raise ValueError(f"power: expected a number above 0, got {power}")


def _values(
    x: Tensor,
    scale: Tensor,
    seeds: Sequence[int],
    kernel: Kernel,
    power: float,
    method: Method,
    band: bool,
) -> list[_Value]:
    t, n, _ = x.shape
    if t == 0:
        return []
    values = []
    exact = method == "exact"
    budget = CHUNK_ELEMENTS.get(x.device.type, CHUNK_ELEMENTS["cuda"])
    step = max(1, budget // (n * n)) if exact else 1
    for start in range(0, t, step):
        part = slice(start, min(t, start + step))
        matrix = gram(x[part], scale[part], torch.float64 if exact else torch.float32)
        spreads = _block_errors(matrix, kernel, power) if band else [None] * len(matrix)
        operator = normalise(matrix, kernel)
        if exact:
            found = [(bits, 0.0) for bits in spectral_entropy(operator, power).tolist()]
        else:
            found = [entropy_by_quadrature(operator[0], seeds[start])]
        for (bits, error), half in zip(found, spreads, strict=True):
            wide = None if half is None else math.hypot(half, 1.96 * error)
            values.append(_Value(min(max(bits, 0.0), math.log2(n)), wide))
    return values


def _block_errors(matrix: Tensor, kernel: Kernel, power: float) -> list[float | None]:
    """Return half the band's width from disjoint runs of rows of ``matrix (c, n, n)``."""
    n = matrix.shape[-1]
    count = max(4, n // BAND_ROWS)
    size = n // count
    if size < MIN_BAND_ROWS:
        return [None] * matrix.shape[0]
    runs = [matrix[:, i * size : (i + 1) * size, i * size : (i + 1) * size] for i in range(count)]
    operators = normalise(torch.stack(runs, 1).to(torch.float64), kernel)
    spread = spectral_entropy(operators, power).std(-1)
    quantile = float(student.ppf(0.975, count - 1)) / math.sqrt(count)
    return [quantile * value for value in spread.tolist()]


def _estimate(value: _Value, n: int, parameters: dict[str, float | int | str]) -> Estimate:
    ceiling = math.log2(n)
    saturated = value.bits > SATURATION * ceiling
    return Estimate(
        value=value.bits,
        unit="bits",
        n=n,
        estimator=ESTIMATOR,
        version=VERSION,
        ceiling=ceiling,
        saturated=saturated,
        band=None
        if value.half is None or saturated
        else (value.bits - value.half, value.bits + value.half),
        parameters=parameters,
    )
