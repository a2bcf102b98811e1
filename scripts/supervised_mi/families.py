"""Pairs of vectors whose mutual information is known in closed form.

A family takes a generator, rows, both widths and the nats it should share, and returns x, y and
the nats it does share: some families cannot reach every number. Rows are pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, gammaln
from scipy.stats import norm

Array = NDArray[np.float64]
Drawn = tuple[Array, Array, float]
Family = Callable[[np.random.Generator, int, int, int, float], Drawn]


def shares(rng: np.random.Generator, nats: float, parts: int) -> Array:
    """Return ``nats`` dealt to ``parts``: evenly, at random or decaying."""
    kind = rng.integers(3)
    if kind == 0:
        weights = np.ones(parts)
    elif kind == 1:
        weights = rng.dirichlet(np.ones(parts))
    else:
        weights = np.exp(-np.arange(parts) * rng.uniform(0.1, 1.5))
    return nats * weights / weights.sum()


def correlated(
    rng: np.random.Generator, n: int, dx: int, dy: int, nats: Array
) -> tuple[Array, Array]:
    """Return standard normal vectors whose first columns share ``nats`` each."""
    x, y = rng.normal(size=(n, dx)), rng.normal(size=(n, dy))
    rho = np.sqrt(-np.expm1(-2.0 * nats)) * rng.choice([-1.0, 1.0], len(nats))
    m = len(nats)
    y[:, :m] = rho * x[:, :m] + np.sqrt(1.0 - rho**2) * y[:, :m]
    return x, y


def mixed(rng: np.random.Generator, x: Array) -> Array:
    """Return columns mixed by a random rotation, or by a map with unequal singular values."""
    d = x.shape[1]
    q, _ = np.linalg.qr(rng.normal(size=(d, d)))
    if rng.random() < 0.5:
        return x @ q
    p, _ = np.linalg.qr(rng.normal(size=(d, d)))
    return (x @ q * np.exp(rng.normal(size=d) * rng.uniform(0.0, 1.0))) @ p


def normal_sparse(rng: np.random.Generator, n: int, dx: int, dy: int, nats: float) -> Drawn:
    """Normal: one to four columns of each side are paired, the others are noise."""
    parts = shares(rng, nats, min(dx, dy, int(rng.integers(1, 5))))
    return *correlated(rng, n, dx, dy, parts), nats


def normal_two_pair(rng: np.random.Generator, n: int, dx: int, dy: int, nats: float) -> Drawn:
    """Normal: two equal pairs of columns."""
    parts = np.full(min(dx, dy, 2), nats / min(dx, dy, 2))
    return *correlated(rng, n, dx, dy, parts), nats


def normal_dense(rng: np.random.Generator, n: int, dx: int, dy: int, nats: float) -> Drawn:
    """Normal: many directions share, and each side is mixed."""
    width = min(dx, dy)
    count = width if rng.random() < 0.4 else round(2 ** rng.uniform(0.0, math.log2(width)))
    parts = shares(rng, nats, count)
    x, y = correlated(rng, n, dx, dy, parts)
    return mixed(rng, x), mixed(rng, y), nats


def normal_low_rank(rng: np.random.Generator, n: int, dx: int, dy: int, nats: float) -> Drawn:
    """Normal: both sides see a few latent numbers through random weights and noise."""
    k = int(rng.integers(1, 5))
    a, b = rng.normal(size=(k, dx)), rng.normal(size=(k, dy))
    if rng.random() < 0.3:
        a, b = np.ones((1, dx)), np.ones((1, dy))
    scale = _strength(a, b, nats)
    z = rng.normal(size=(n, a.shape[0])) * scale
    x, y = z @ a + rng.normal(size=(n, dx)), z @ b + rng.normal(size=(n, dy))
    return x, y, _low_rank_nats(a, b, scale)


def _strength(a: Array, b: Array, nats: float) -> float:
    """Return the scale of the latent numbers at which both sides share ``nats``."""
    low, high = 0.0, 1e3
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _low_rank_nats(a, b, middle) < nats else (low, middle)
    return low


def _low_rank_nats(a: Array, b: Array, scale: float) -> float:
    def logdet(w: Array) -> float:
        return float(np.linalg.slogdet(np.eye(len(w)) + scale**2 * w @ w.T)[1])

    return 0.5 * (logdet(a) + logdet(b) - logdet(np.hstack([a, b])))


def student_excess(dx: int, dy: int, freedom: float) -> float:
    """Return what a shared Student scale adds to the Gaussian information, in nats."""

    def entropy(d: int) -> float:
        half = 0.5 * (freedom + d)
        norm = 0.5 * d * math.log(freedom * math.pi) + gammaln(0.5 * freedom) - gammaln(half)
        return float(norm + half * (digamma(half) - digamma(0.5 * freedom)))

    return entropy(dx) + entropy(dy) - entropy(dx + dy)


def student(rng: np.random.Generator, n: int, dx: int, dy: int, nats: float) -> Drawn:
    """Student: one scale for both sides, and sometimes correlated columns as well."""
    freedom = float(np.exp(rng.uniform(0.0, math.log(30.0))))
    while student_excess(dx, dy, freedom) > max(nats, 0.05):
        freedom *= 1.3
    excess = student_excess(dx, dy, freedom)
    rest = max(nats - excess, 0.0) if rng.random() < 0.7 else 0.0
    base = (normal_sparse, normal_dense)[int(rng.integers(2))]
    x, y, gaussian = base(rng, n, dx, dy, rest)
    scale = np.sqrt(rng.chisquare(freedom, (n, 1)) / freedom)
    return x / scale, y / scale, gaussian + excess


def uniform_width(nats: float) -> float:
    """Return the half width e of uniform noise at which a uniform number keeps ``nats``."""
    if nats <= 0.5:
        return 0.25 / max(nats, 1e-3)
    low, high = 1e-6, 0.5
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if middle - math.log(2 * middle) > nats else (low, middle)
    return low


def additive(rng: np.random.Generator, n: int, dx: int, dy: int, nats: float) -> Drawn:
    """Uniform numbers and noisy copies of some of them; 1e-3 nats at least per pair."""
    width = min(dx, dy)
    parts = np.maximum(shares(rng, nats, int(rng.integers(1, min(width, 6) + 1))), 1e-3)
    m = len(parts)
    x, y = rng.random((n, dx)), rng.random((n, dy))
    widths = np.array([uniform_width(part) for part in parts])
    y[:, :m] = x[:, :m] + rng.uniform(-1.0, 1.0, (n, m)) * widths
    if rng.random() < 0.3:
        x, y = mixed(rng, x), mixed(rng, y)
    return x, y, float(parts.sum())


def clusters(rng: np.random.Generator, n: int, dx: int, dy: int, nats: float) -> Drawn:
    """Clusters far apart on both sides: the label's entropy, and normal information inside."""
    weights = rng.dirichlet(np.full(int(rng.integers(2, 9)), rng.uniform(0.5, 5.0)))
    entropy = label_entropy(weights)
    while entropy > max(nats, 0.02):
        weights = weights**1.3 / (weights**1.3).sum()
        entropy = label_entropy(weights)
    inside = max(nats - entropy, 0.0)
    x, y, within = normal_sparse(rng, n, dx, dy, inside)
    labels = rng.choice(len(weights), n, p=weights)
    x, y = (z + centres(rng, len(weights), z.shape[1])[labels] for z in (x, y))
    if rng.random() < 0.3:
        x, y = mixed(rng, x), mixed(rng, y)
    return x, y, entropy + within


def label_entropy(weights: Array) -> float:
    """Return the entropy of a distribution in nats."""
    held = weights[weights > 0]
    return float(-(held * np.log(held)).sum())


def centres(rng: np.random.Generator, count: int, d: int) -> Array:
    """Return ``count`` points of which no two are nearer than 16."""
    points = rng.normal(size=(count, d))
    if d == 1:
        points = rng.permutation(count)[:, None] * 1.0
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(count)
    return points * (16.0 / gaps.min()) * rng.uniform(1.0, 1.5)


def gamma_exponential(rng: np.random.Generator, n: int, dx: int, dy: int, nats: float) -> Drawn:
    """Exponential numbers whose rate is a gamma number: psi(a) - ln a + 1/a per pair."""
    m = min(dx, dy, int(rng.integers(1, 4)))
    target = max(nats / m, 0.02)
    low, high = 1e-2, 1e3
    for _ in range(60):
        a = math.sqrt(low * high)
        low, high = (a, high) if digamma(a) - math.log(a) + 1.0 / a > target else (low, a)
    x, y = rng.normal(size=(n, dx)), rng.normal(size=(n, dy))
    # Logarithms keep small shapes from becoming exact zeros; they are one-to-one.
    rate = np.log(rng.gamma(low + 1.0, size=(n, m))) + np.log(rng.random((n, m))) / low
    x[:, :m], y[:, :m] = rate, np.log(rng.exponential(size=(n, m))) - rate
    return x, y, m * float(digamma(low) - math.log(low) + 1.0 / low)


def swiss_roll(rng: np.random.Generator, n: int, dx: int, dy: int, nats: float) -> Drawn:
    """One normal pair, whose x is rolled up in two columns; the others are noise."""
    x, y = correlated(rng, n, dx, dy, np.array([nats]))
    if dx == 1:
        return x, y, nats
    angle = 1.5 * math.pi * (1.0 + 2.0 * np.asarray(norm.cdf(x[:, 0])))
    x[:, 0], x[:, 1] = angle * np.cos(angle), angle * np.sin(angle)
    return x, y, nats


def channel(rng: np.random.Generator, n: int, dx: int, dy: int, nats: float) -> Drawn:
    """Clusters on both sides whose labels agree but for errors of a symmetric channel."""
    count = int(rng.integers(3, 13))
    error = _channel_error(count, nats)
    sent = rng.integers(0, count, n)
    other = (sent + rng.integers(1, count, n)) % count
    received = np.where(rng.random(n) < error, other, sent)
    x = rng.normal(size=(n, dx)) + centres(rng, count, dx)[sent]
    y = rng.normal(size=(n, dy)) + centres(rng, count, dy)[received]
    return x, y, channel_nats(count, error)


def channel_nats(count: int, error: float) -> float:
    """Return what a uniform label keeps in a symmetric channel."""
    kept = math.log(count)
    if error > 0:
        kept += error * math.log(error / (count - 1))
    return kept + ((1 - error) * math.log(1 - error) if error < 1 else 0.0)


def _channel_error(count: int, nats: float) -> float:
    low, high = 0.0, (count - 1) / count
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if channel_nats(count, middle) > nats else (low, middle)
    return low


def circular(rng: np.random.Generator, n: int, dx: int, dy: int, nats: float) -> Drawn:
    """A point of a circle and a copy moved by uniform noise: -ln of the noise's length."""
    nats = min(nats, 3.0)
    x, y = rng.normal(size=(n, dx)), rng.normal(size=(n, dy))
    point = rng.random(n)
    x[:, 0] = point
    y[:, 0] = (point + rng.random(n) * math.exp(-nats)) % 1.0
    return x, y, nats


def rings(rng: np.random.Generator, n: int, dx: int, dy: int, nats: float) -> Drawn:
    """The same with the points of both circles as two columns each, where there are two."""
    x, y, nats = circular(rng, n, dx, dy, nats)
    for z in (x, y):
        if z.shape[1] > 1:
            angle = 2.0 * math.pi * z[:, 0]
            z[:, 0], z[:, 1] = np.cos(angle), np.sin(angle)
    return x, y, nats


TRAINED: dict[str, Family] = {
    "normal sparse": normal_sparse,
    "normal two-pair": normal_two_pair,
    "normal dense": normal_dense,
    "normal low-rank": normal_low_rank,
    "Student": student,
    "additive noise": additive,
    "clusters": clusters,
    "noisy channel": channel,
}
"""Families of training, validation and the report's seen part."""

UNSEEN: dict[str, Family] = {
    "gamma-exponential": gamma_exponential,
    "swiss roll": swiss_roll,
    "circular": circular,
    "rings": rings,
}
"""Families that no training set ever has."""
