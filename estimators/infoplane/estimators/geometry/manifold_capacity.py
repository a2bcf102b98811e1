"""Capacity and spread of the manifolds that the rows of one label form.

"Learning Efficient Coding of Natural Images with Maximum Manifold Capacity Representations"
(Yerxa et al., NeurIPS 2023): rows are scaled to length 1 and averaged per label. A large nuclear
norm of the centroids means that labels point apart; a small one of a label's own rows, that its
manifold is compact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate, Unit
from infoplane.estimators.mutual_information.verdicts import (
    constant_items,
    nonfinite_items,
    null_of,
)
from infoplane.estimators.state.class_sums import ClassSums

CAPACITY = "manifold_capacity"
SPREAD = "manifold_spread"
POOLED = "manifold_capacity_pooled"
VERSION = 2
"""Of capacity and spread: 2 averages them over draws of the rows."""
POOLED_VERSION = 1
BLOCK_ELEMENTS = 1 << 22
"""Entries of chosen rows taken at once: 32 MB in float64."""

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]
Parameters = Mapping[str, float | int | str]


@dataclass(frozen=True, slots=True)
class ManifoldCapacity:
    """The two readings of one set of labelled rows.

    Attributes:
        capacity: Nuclear norm of the P centroids over sqrt(P min(P, d)): 1 when they are orthogonal
            and of length 1, 1 / sqrt(min(P, d)) when all rows agree, less when rows of one label
            cancel.
        spread: Mean over labels of the nuclear norm of their m rows over sqrt(m): 1 when rows of
            one label agree, sqrt(min(m, d)) when they are orthogonal.
    """

    capacity: Estimate
    spread: Estimate


Measure = Callable[[Tensor, bool], tuple[FloatArray, FloatArray]]
"""From unit rows ``(draws, P, m, d)`` to one value per draw and, if wanted, the error's parts."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """One of the two readings and its settings."""

    estimator: str
    unit: Unit
    per_label: int
    labels_used: int | None
    drawn: int
    permutations: int
    measure: Measure
    error: Callable[[FloatArray, IndexArray], float]

    @property
    def draws(self) -> int:
        """Times that rows are chosen."""
        return max(1, self.drawn // self.per_label)

    def parameters(self, d: int, classes: int | None) -> Parameters:
        """Return what is part of an estimate's identity."""
        used = {} if classes is None else {"classes": classes}
        return {**used, "d": d, "draws": self.draws, "per_label": self.per_label}


def manifold_capacity(
    x: Tensor,
    labels: Tensor,
    *,
    seeds: Sequence[int],
    per_label: int = 2,
    spread_per_label: int = 8,
    labels_used: int | None = None,
    drawn: int = 128,
    permutations: int = 1,
) -> list[ManifoldCapacity]:
    """Return capacity and spread of every item.

    Both depend on the number P of labels, on d and on the rows m of a label, so these are held
    fixed and recorded. Labels with at least m rows qualify; P is ``labels_used`` when as many do,
    else the largest power of two that do, so that P seldom changes between windows. The P most
    frequent labels are taken, the smaller label first when two are equally frequent, and m rows of
    each by chance, ``drawn`` // m times: the value is the mean. A label's draws share no row before
    all of its rows have been taken. Centroids are not scaled to length 1 again.

    Rows that begin to agree make the centroids of many rows longer and more alike: the norm rises
    by the one and falls by the other. With few rows the second outweighs sooner, as centroids are
    long already; with one row labels would not matter at all. Hence 2.

    Null: the rows of every draw dealt to the labels by chance. Ceilings: 1, and sqrt(min(m, d)) for
    the spread; ``saturated`` stays False, as both can be reached. Bands: value +- 1.96 standard
    errors for independent rows; of the capacity over the rows of the labels at hand, first order in
    a label's rows, and none when a label shows one row; of the spread over labels.

    Undefined: ``"n"`` without rows or columns, ``"nan"``, ``"constant"``, ``"classes"`` when fewer
    than 2 labels qualify. A row of zeros has no direction and stays zero.

    Args:
        x: Shape ``(t, n, d)``.
        labels: Shape ``(t, n)``, integers.
        seeds: One per item, for the choice of rows and the null.
        per_label: Rows m of a label in a centroid.
        spread_per_label: Rows m of a label whose spread is taken.
        labels_used: Labels P, at least 2.
        drawn: Rows of a label that all draws take together, the same ones again in a small label.
        permutations: Draws of the null, from each choice of rows.

    Returns:
        ``t`` pairs, n the different rows used. Cost O((1 + permutations) t drawn P d), and
        (1 + permutations) t drawn / m eigenvalue problems of size min(P, d) for the capacity, P
        times as many of size min(m, d) for the spread; float64.

    Raises:
        ValueError: If shapes, the number of seeds or a setting do not fit.
    """
    if x.ndim != 3 or labels.shape != x.shape[:2] or len(seeds) != x.shape[0]:
        raise ValueError(
            f"x, labels, seeds: expected (t, n, d), (t, n), t; "
            f"got {tuple(x.shape)}, {tuple(labels.shape)}, {len(seeds)}"
        )
    given = (per_label, spread_per_label, drawn, permutations, labels_used)
    if min(given[:3]) < 1 or permutations < 0 or (labels_used is not None and labels_used < 2):
        raise ValueError(
            "per_label, spread_per_label, drawn, permutations, labels_used: "
            f"expected at least 1, 1, 1, 0, 2; got {given}"
        )
    rest = (labels_used, drawn, permutations)
    capacity = _Reading(CAPACITY, "ratio", per_label, *rest, _capacity, _error_over_rows)
    spread = _Reading(SPREAD, "1", spread_per_label, *rest, _spread, _error_over_labels)
    reasons = _reasons(x)
    host = labels.cpu().numpy()
    return [
        ManifoldCapacity(
            *(_estimate(x[i], host[i], seeds[i], reasons[i], one) for one in (capacity, spread))
        )
        for i in range(len(seeds))
    ]


def manifold_capacity_of_sums(
    sums: Sequence[ClassSums],
    *,
    per_label: int = 8,
    labels_used: int | None = None,
) -> list[Estimate]:
    """Return the capacity of centroids over all rows, from sums that add over shards; a ratio.

    Labels are chosen as in `manifold_capacity`, but every row of theirs counts, so that frequent
    labels have the better centroids: a metric of its own, ``manifold_capacity_pooled``. No null and
    no band, which take rows. Ceiling: 1. Undefined: ``"n"`` without rows or columns, ``"classes"``.

    Args:
        sums: One per item.
        per_label: Fewest rows of a label that counts.
        labels_used: Labels P, at least 2.

    Returns:
        One estimate per item, n the rows of the labels used. Cost O(P d min(P, d)), float64.
    """
    return [_pooled(item, per_label, labels_used) for item in sums]


def _reasons(x: Tensor) -> list[str]:
    t, n, d = x.shape
    if n == 0 or d == 0:
        return ["n"] * t
    flags = zip(nonfinite_items(x), constant_items(x), strict=True)
    return ["nan" if nan else "constant" if flat else "" for nan, flat in flags]


def _estimate(x: Tensor, labels: IndexArray, seed: int, reason: str, reading: _Reading) -> Estimate:
    """Return one reading of one item; its draws are batch enough."""
    d = x.shape[1]
    index = None if reason else _choose(labels, seed, reading)
    if index is None:
        return Estimate.missing(
            reason or "classes",
            unit=reading.unit,
            n=len(x),
            estimator=reading.estimator,
            version=VERSION,
            parameters=reading.parameters(d, None),
        )
    rows, (p, m) = _unit(x), index.shape[2:]
    values, parts = _measured(rows, index[0], reading.measure, True)
    value = float(values.mean())
    null = [_measured(rows, one, reading.measure, False)[0].mean() for one in index[1:]]
    mean, deviation = null_of([float(one) for one in null])
    error = 1.96 * reading.error(parts, index[0])
    return Estimate(
        value=value,
        unit=reading.unit,
        n=np.unique(index[0]).size,
        estimator=reading.estimator,
        version=VERSION,
        null_mean=mean,
        null_sd=deviation,
        ceiling=1.0 if reading.estimator == CAPACITY else math.sqrt(min(m, d)),
        band=(value - error, value + error) if math.isfinite(error) else None,
        parameters=reading.parameters(d, p),
    )


def _measured(
    rows: Tensor, index: IndexArray, measure: Measure, with_parts: bool
) -> tuple[FloatArray, FloatArray]:
    """Return `measure` of the rows at ``index (draws, P, m)``, a block of draws at a time."""
    step = max(1, BLOCK_ELEMENTS // (index[0].size * rows.shape[1]))
    chosen = torch.from_numpy(index).to(rows.device)
    blocks = (rows[chosen[at : at + step]] for at in range(0, len(index), step))
    values, parts = zip(*(measure(block, with_parts) for block in blocks), strict=True)
    return np.concatenate(values), np.concatenate(parts)


def _places(counts: IndexArray, per_label: int, labels_used: int | None) -> IndexArray:
    """Return the places of the labels to use, most frequent first; fewer than 2 mean none."""
    enough = np.flatnonzero(counts >= per_label)
    p = 1 << max(len(enough).bit_length() - 1, 0)
    if labels_used is not None:
        p = labels_used if labels_used <= len(enough) else p
    order = np.argsort(-counts[enough], kind="stable")
    return np.asarray(enough[order[: min(p, len(enough))]], np.int64)


def _choose(labels: IndexArray, seed: int, reading: _Reading) -> IndexArray | None:
    """Return rows of every label used, true and by chance, ``(1 + permutations, draws, P, m)``."""
    m, draws = reading.per_label, reading.draws
    _, dense, counts = np.unique(labels, return_inverse=True, return_counts=True)
    kept = _places(counts, m, reading.labels_used)
    if len(kept) < 2:
        return None
    generator = np.random.default_rng([seed % 2**63, m])
    by_label = np.argsort(dense, kind="stable")
    ends = np.cumsum(counts)
    rows = np.stack(
        [_dealt(by_label[ends[k] - counts[k] : ends[k]], m, draws, generator) for k in kept], 1
    )
    flat = rows.reshape(draws, -1)
    null = [
        generator.permuted(flat, axis=1).reshape(rows.shape) for _ in range(reading.permutations)
    ]
    return np.stack([rows, *null])


def _dealt(rows: IndexArray, m: int, draws: int, generator: np.random.Generator) -> IndexArray:
    """Return ``(draws, m)``: rows shuffled and dealt in hands of m, again when they are used up."""
    hands = len(rows) // m
    rounds = np.tile(rows, (-(-draws // hands), 1))
    shuffled = generator.permuted(rounds, axis=1)[:, : hands * m]
    return shuffled.reshape(-1, m)[:draws]


def _unit(x: Tensor) -> Tensor:
    # Division by the largest entry first: squares of large entries overflow.
    rows = x.to(torch.float64)
    rows = rows / rows.abs().amax(-1, keepdim=True).clamp(min=1e-300)
    unit: Tensor = rows / rows.norm(dim=-1, keepdim=True).clamp(min=1e-300)
    return unit


def _capacity(z: Tensor, with_slopes: bool) -> tuple[FloatArray, FloatArray]:
    """Return the capacity of unit rows ``z (draws, P, m, d)``, and its slopes along them."""
    p, _, d = z.shape[1:]
    bound = math.sqrt(p * min(p, d))
    centroids = z.mean(2)
    # Eigenvalues of the small Gram matrix take a sixth of the time of singular values.
    gram = centroids @ centroids.mT if p <= d else centroids.mT @ centroids
    if not with_slopes:
        return (_roots(torch.linalg.eigvalsh(gram)).sum(-1) / bound).cpu().numpy(), np.zeros(0)
    squares, vectors = torch.linalg.eigh(gram)
    values = _roots(squares)
    # U V' is the slope of the nuclear norm, G^(-1/2) C; directions without length have none.
    inverse = torch.where(values > 1e-7 * values[:, -1:], 1.0 / values, 0.0)
    root = (vectors * inverse.unsqueeze(1)) @ vectors.mT
    slope = root @ centroids if p <= d else centroids @ root
    along = torch.einsum("kpmd,kpd->kpm", z, slope) / bound
    return (values.sum(-1) / bound).cpu().numpy(), along.cpu().numpy()


def _spread(z: Tensor, _: bool) -> tuple[FloatArray, FloatArray]:
    """Return the spread of unit rows ``z (draws, P, m, d)``, and that of every label."""
    m, d = z.shape[2:]
    gram = z @ z.mT if m <= d else z.mT @ z
    local = _roots(torch.linalg.eigvalsh(gram)).sum(-1) / math.sqrt(m)
    return local.mean(-1).cpu().numpy(), local.cpu().numpy()


def _roots(squares: Tensor) -> Tensor:
    return squares.clamp(min=0.0).sqrt()


def _error_over_rows(along: FloatArray, index: IndexArray) -> float:
    """Return the standard error from slopes along rows, both ``(draws, P, m)``; NaN for one row."""
    labels = range(index.shape[1])
    return math.sqrt(sum(_variance(along[:, label], index[:, label]) for label in labels))


def _variance(along: FloatArray, index: IndexArray) -> float:
    """Return what the rows of one label add to the variance; both ``(draws, m)``."""
    draws, m = index.shape
    rows, place, seen = np.unique(index, return_inverse=True, return_counts=True)
    n = rows.size
    if n < 2:
        return math.nan
    if n == m:
        # Every hand is the same: the error of a mean along its slope.
        pull = np.bincount(place.ravel(), (along - along.mean()).ravel()) / (draws * m)
        return float(np.sum(pull**2) * n / (n - 1))
    # The slope along a hand is its share of the norm. Jackknife of the mean over hands, less what
    # it owes to the number of draws.
    hands = along.mean(1) - along.mean()
    noise = float(hands.var(ddof=1)) if draws > 1 else math.nan
    means = np.bincount(place.ravel(), np.repeat(hands, m)) / seen
    between = (n - 1) / n * float(np.sum(means**2)) * (m / (n - m)) ** 2
    within = m**2 / (n * (n - m)) * float(np.sum(1 / seen)) * noise
    return float(max(between - within, 0.0) + noise / draws)


def _error_over_labels(local: FloatArray, index: IndexArray) -> float:
    """Return the standard error from values ``(draws, P)`` of labels."""
    return float(local.mean(0).std(ddof=1)) / math.sqrt(index.shape[1])


def _pooled(item: ClassSums, per_label: int, labels_used: int | None) -> Estimate:
    places = _places(item.rows, per_label, labels_used)
    p, n = len(places), int(item.rows[places].sum())
    parameters: Parameters = {"classes": p, "per_label": per_label, "d": item.d}
    reason = "n" if item.d == 0 or item.n == 0 else "classes" if p < 2 else ""
    if reason:
        return Estimate.missing(
            reason,
            unit="ratio",
            n=n,
            estimator=POOLED,
            version=POOLED_VERSION,
            parameters=parameters,
        )
    values = np.linalg.svd(item.centroids()[places], compute_uv=False)
    return Estimate(
        value=float(values.sum()) / math.sqrt(p * min(p, item.d)),
        unit="ratio",
        n=n,
        estimator=POOLED,
        version=POOLED_VERSION,
        ceiling=1.0,
        parameters=parameters,
    )
