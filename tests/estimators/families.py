"""Generators of data with known information, after Czyz et al., "Beyond Normal" (NeurIPS 2023); our own.

Shared by the tests beside this file and by `benchmarks/estimators/heldout_ksg.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.stats import norm

Array = np.ndarray
Pair = tuple[Array, Array]
Family = Callable[[int, np.random.Generator], Pair]

BIVARIATE = -0.5 * math.log(1 - 0.75**2)
DENSE = {2: 0.2939, 3: 0.4133, 5: 0.5928, 25: 1.2922, 50: 1.6243}
STUDENT = {(1, 1): 0.2242, (2, 1): 0.4319, (2, 2): 0.1931, (3, 2): 0.2909, (3, 3): 0.1787,
           (5, 2): 0.4482, (5, 3): 0.2985}  # fmt: skip
TWO_PAIRS = -math.log(1 - 0.8**2)


def sparse(d: int, n: int, rng: np.random.Generator, rho: float, directions: int) -> Pair:
    """Return normal vectors of which the first ``directions`` columns are correlated."""
    x, y = rng.normal(size=(n, d)), rng.normal(size=(n, d))
    y[:, :directions] = rho * x[:, :directions] + math.sqrt(1 - rho**2) * y[:, :directions]
    return x, y


def dense(d: int, n: int, rng: np.random.Generator) -> Pair:
    """Return normal vectors whose 2 d columns all correlate by 0.5."""
    z = math.sqrt(0.5) * (rng.normal(size=(n, 1)) + rng.normal(size=(n, 2 * d)))
    return z[:, :d], z[:, d:]


def student(d: int, freedom: int, n: int, rng: np.random.Generator) -> Pair:
    """Return uncorrelated Student vectors."""
    z = rng.normal(size=(n, 2 * d)) / np.sqrt(rng.chisquare(freedom, (n, 1)) / freedom)
    return z[:, :d], z[:, d:]


def spiral(x: Array, i: int, j: int) -> Array:
    """Rotate columns i and j by a third of the squared norm."""
    angle = (x**2).sum(1) / 3
    out = x.copy()
    out[:, i] = np.cos(angle) * x[:, i] - np.sin(angle) * x[:, j]
    out[:, j] = np.sin(angle) * x[:, i] + np.cos(angle) * x[:, j]
    return out


def half_cube(x: Array) -> Array:
    """Return sign(x) |x|^1.5."""
    return np.sign(x) * np.abs(x) ** 1.5


def swiss_roll(x: Array) -> Array:
    """Roll one column up in two."""
    angle = 1.5 * np.pi * (1 + 2 * norm.cdf(x))
    return np.hstack([angle * np.cos(angle), angle * np.sin(angle)]) / 21


def bimodal(x: Array) -> Array:
    """Give one column two modes."""
    grid = np.linspace(-10, 15, 20001)
    return np.interp(norm.cdf(x), 0.3 * norm.cdf(grid) + 0.7 * norm.cdf(grid, 5), grid)


def wiggly(x: Array) -> Array:
    """Stretch one column unevenly."""
    return x + 0.4 * np.sin(x) + 0.2 * np.sin(1.7 * x + 1) + 0.03 * np.sin(3.3 * x - 2.5)


def both(make: Family, f: Callable[[Array], Array], g: Callable[[Array], Array]) -> Family:
    """Return a family mapped column by column."""

    def mapped(n: int, rng: np.random.Generator) -> Pair:
        x, y = make(n, rng)
        return f(x), g(y)

    return mapped


def additive(width: float, n: int, rng: np.random.Generator) -> Pair:
    """Return a uniform number and a noisy copy."""
    x = rng.random((n, 1))
    return x, x + rng.uniform(-width, width, (n, 1))


def families() -> dict[str, tuple[float, Family]]:
    """Return truth and generator by name."""

    def one(n: int, rng: np.random.Generator) -> Pair:
        return sparse(1, n, rng, 0.75, 1)

    out: dict[str, tuple[float, Family]] = {
        "1-D normal": (BIVARIATE, one),
        "1-D uniform": (BIVARIATE, both(one, norm.cdf, norm.cdf)),
        "1-D bimodal": (BIVARIATE, both(one, bimodal, bimodal)),
        "1-D wiggly": (BIVARIATE, both(one, wiggly, wiggly)),
        "1-D half-cube": (BIVARIATE, both(one, half_cube, half_cube)),
        "swiss roll 2+1": (BIVARIATE, both(one, swiss_roll, norm.cdf)),
        "additive noise 0.1": (1.7094, lambda n, r: additive(0.1, n, r)),
        "additive noise 0.75": (0.3333, lambda n, r: additive(0.75, n, r)),
    }
    for d, truth in DENSE.items():
        make: Family = lambda n, r, d=d: dense(d, n, r)  # noqa: E731
        out[f"dense normal {d}+{d}"] = (truth, make)
        if d in (3, 5, 25):
            out[f"dense uniform {d}+{d}"] = (truth, both(make, norm.cdf, norm.cdf))
            out[f"dense spiral {d}+{d}"] = (
                truth,
                both(make, lambda x: spiral(x, 0, 1), lambda y: spiral(y, 1, 2)),
            )
    for d in (2, 3, 5, 25):
        make = lambda n, r, d=d: sparse(d, n, r, 0.8, 2)  # noqa: E731
        out[f"two-pair normal {d}+{d}"] = (TWO_PAIRS, make)
        if d > 2:
            out[f"two-pair half-cube {d}+{d}"] = (TWO_PAIRS, both(make, half_cube, half_cube))
            out[f"two-pair spiral {d}+{d}"] = (
                TWO_PAIRS,
                both(make, lambda x: spiral(x, 0, 1), lambda y: spiral(y, 1, 2)),
            )
    for (d, freedom), truth in STUDENT.items():
        make = lambda n, r, d=d, f=freedom: student(d, f, n, r)  # noqa: E731
        out[f"Student {freedom} {d}+{d}"] = (truth, make)
        if (d, freedom) in ((1, 1), (2, 1), (3, 2), (5, 2)):
            out[f"asinh Student {freedom} {d}+{d}"] = (truth, both(make, np.arcsinh, np.arcsinh))
    return out


def spread() -> dict[str, tuple[float, Family]]:
    """Return one nat spread over more and more directions, and weaker dependence."""

    def make(d: int, m: int, nats: float) -> Family:
        rho = math.sqrt(1 - math.exp(-2 * nats / m))
        return lambda n, r: sparse(d, n, r, rho, m)

    even = {f"1 nat over {d} of {d}": (1.0, make(d, d, 1.0)) for d in (1, 2, 4, 8, 16, 32)}
    few = {f"1 nat over {m} of 64": (1.0, make(64, m, 1.0)) for m in (1, 2, 4, 8)}
    weak = {f"{v} nat over 1 of 64": (v, make(64, 1, v)) for v in (0.1, 0.2, 0.5)}
    none = {f"independent {d}+{d}": (0.0, make(d, 1, 0.0)) for d in (5, 10, 25, 50, 100)}
    return {**none, **even, **few, **weak}
