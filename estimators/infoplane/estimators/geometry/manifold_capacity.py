"""Capacity and spread of the manifolds that the rows of one label form.

"Learning Efficient Coding of Natural Images with Maximum Manifold Capacity Representations"
(Yerxa et al., NeurIPS 2023): rows are scaled to length 1 and averaged per label. A large nuclear
norm of the centroids means that labels point apart; a small one of a label's own rows, that its
manifold is compact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
UNITS: dict[str, Unit] = {CAPACITY: "ratio", SPREAD: "1"}
VERSION = 1
BLOCK_ELEMENTS = 1 << 22
"""Entries of chosen rows taken at once: 32 MB in float64."""

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


@dataclass(frozen=True, slots=True)
class _Norms:
    """Capacity, spread, and standard error of each, over leading dimensions."""

    values: Tensor
    errors: Tensor


def manifold_capacity(
    x: Tensor,
    labels: Tensor,
    *,
    seeds: Sequence[int],
    per_label: int = 8,
    labels_used: int | None = None,
    permutations: int = 1,
) -> list[ManifoldCapacity]:
    """Return capacity and spread of every item.

    Both depend on the number P of labels, on d and on the rows m of a label, so these are held
    fixed and recorded. Labels with at least m rows qualify; P is ``labels_used`` when as many do,
    else the largest power of two that do, so that P seldom changes between windows. The P most
    frequent labels are taken, the smaller label first when two are equally frequent, and m rows of
    each by chance. Centroids are not scaled to length 1 again.

    Null: the chosen rows dealt to the labels by chance. Ceilings: 1, and sqrt(min(m, d)) for the
    spread; ``saturated`` stays False, as both can be reached. Bands: value +- 1.96 standard errors
    for independent rows; of the capacity over the rows of the labels at hand, first order, and
    none for m = 1; of the spread over labels.

    Undefined: ``"n"`` without rows or columns, ``"nan"``, ``"constant"``, ``"classes"`` when fewer
    than 2 labels qualify. A row of zeros has no direction and stays zero.

    Args:
        x: Shape ``(t, n, d)``.
        labels: Shape ``(t, n)``, integers.
        seeds: One per item, for the choice of rows and the null.
        per_label: Rows m of a label.
        labels_used: Labels P, at least 2.
        permutations: Draws of the null.

    Returns:
        ``t`` pairs, n the P m rows used. Cost O((1 + permutations) t P d (m + min(P, d))), float64.

    Raises:
        ValueError: If shapes, the number of seeds or a setting do not fit.
    """
    if x.ndim != 3 or labels.shape != x.shape[:2] or len(seeds) != x.shape[0]:
        raise ValueError(
            f"x, labels, seeds: expected (t, n, d), (t, n), t; "
            f"got {tuple(x.shape)}, {tuple(labels.shape)}, {len(seeds)}"
        )
    if per_label < 1 or permutations < 0 or (labels_used is not None and labels_used < 2):
        raise ValueError(
            "per_label, labels_used, permutations: expected at least 1, 2, 0; "
            f"got {per_label}, {labels_used}, {permutations}"
        )
    t, n, d = x.shape
    if n == 0 or d == 0:
        return [_missing("n", n, d, per_label) for _ in range(t)]
    flags = zip(nonfinite_items(x), constant_items(x), strict=True)
    reasons = ["nan" if nan else "constant" if flat else "" for nan, flat in flags]
    answers: dict[int, ManifoldCapacity] = {}
    groups: dict[int, list[tuple[int, IndexArray]]] = {}
    for i, item in enumerate(labels.cpu().numpy()):
        rows = _choose(item, seeds[i], per_label, labels_used, permutations)
        if reasons[i] or rows is None:
            answers[i] = _missing(reasons[i] or "classes", n, d, per_label)
        else:
            groups.setdefault(rows.shape[1], []).append((i, rows))
    for p, members in groups.items():
        step = max(1, BLOCK_ELEMENTS // ((1 + permutations) * p * per_label * d))
        for start in range(0, len(members), step):
            places = [i for i, _ in members[start : start + step]]
            index = np.stack([rows for _, rows in members[start : start + step]])
            norms = _norms(_unit(_take(x[places], torch.from_numpy(index).to(x.device))))
            answers.update(zip(places, _readings(norms, per_label, d, p), strict=True))
    return [answers[i] for i in range(t)]


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


def _places(counts: IndexArray, per_label: int, labels_used: int | None) -> IndexArray:
    """Return the places of the labels to use, most frequent first; fewer than 2 mean none."""
    enough = np.flatnonzero(counts >= per_label)
    p = 1 << max(len(enough).bit_length() - 1, 0)
    if labels_used is not None:
        p = labels_used if labels_used <= len(enough) else p
    order = np.argsort(-counts[enough], kind="stable")
    return np.asarray(enough[order[: min(p, len(enough))]], np.int64)


def _choose(
    labels: IndexArray, seed: int, per_label: int, labels_used: int | None, permutations: int
) -> IndexArray | None:
    """Return rows of every label used, true and by chance, ``(1 + permutations, P, m)``."""
    _, dense, counts = np.unique(labels, return_inverse=True, return_counts=True)
    kept = _places(counts, per_label, labels_used)
    if len(kept) < 2:
        return None
    generator = np.random.default_rng(seed % 2**63)
    order = generator.permutation(len(labels))
    # A stable sort by label keeps the random order within a label.
    by_label = order[np.argsort(dense[order], kind="stable")]
    starts = np.cumsum(counts) - counts
    rows = by_label[starts[kept][:, None] + np.arange(per_label)]
    null = [generator.permutation(rows.ravel()).reshape(rows.shape) for _ in range(permutations)]
    return np.stack([rows, *null])


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Return rows of ``x (t, n, d)`` at ``index (t, r, P, m)``, shape ``(t, r, P, m, d)``."""
    flat = index.flatten(1).unsqueeze(-1).expand(-1, -1, x.shape[-1])
    return x.gather(1, flat).reshape(*index.shape, x.shape[-1])


def _unit(x: Tensor) -> Tensor:
    # Division by the largest entry first: squares of large entries overflow.
    rows = x.to(torch.float64)
    rows = rows / rows.abs().amax(-1, keepdim=True).clamp(min=1e-300)
    unit: Tensor = rows / rows.norm(dim=-1, keepdim=True).clamp(min=1e-300)
    return unit


def _norms(z: Tensor) -> _Norms:
    """Return the readings of unit rows ``z (t, r, P, m, d)``, shape ``(t, r, 2)``."""
    p, m, d = z.shape[2:]
    bound = math.sqrt(p * min(p, d))
    left, values, right = torch.linalg.svd(z.mean(3), full_matrices=False)
    capacity = values.sum(-1) / bound
    # U V' is the slope of the nuclear norm; a centroid's error along it is that of a mean.
    along = torch.einsum("trpmd,trpd->trpm", z, left @ right)
    noise = along.var(-1) if m > 1 else torch.full_like(along[..., 0], torch.nan)
    error = (noise.sum(-1) / m).sqrt() / bound
    # Eigenvalues of the small Gram matrix take a tenth of the time of singular values.
    gram = z @ z.mT if m <= d else z.mT @ z
    local = torch.linalg.eigvalsh(gram).clamp(min=0.0).sqrt().sum(-1) / math.sqrt(m)
    return _Norms(
        torch.stack([capacity, local.mean(-1)], -1).cpu(),
        torch.stack([error, local.std(-1) / math.sqrt(p)], -1).cpu(),
    )


def _readings(norms: _Norms, m: int, d: int, p: int) -> list[ManifoldCapacity]:
    parameters: Parameters = {"classes": p, "per_label": m, "d": d}
    ceilings = {CAPACITY: 1.0, SPREAD: math.sqrt(min(m, d))}
    found = []
    for values, errors in zip(norms.values, norms.errors, strict=True):
        pair = []
        for side, (name, ceiling) in enumerate(ceilings.items()):
            value, *null = values[:, side].tolist()
            mean, deviation = null_of(null)
            error = 1.96 * float(errors[0, side])
            pair.append(
                Estimate(
                    value=value,
                    unit=UNITS[name],
                    n=p * m,
                    estimator=name,
                    version=VERSION,
                    null_mean=mean,
                    null_sd=deviation,
                    ceiling=ceiling,
                    band=(value - error, value + error) if math.isfinite(error) else None,
                    parameters=parameters,
                )
            )
        found.append(ManifoldCapacity(*pair))
    return found


def _pooled(item: ClassSums, per_label: int, labels_used: int | None) -> Estimate:
    places = _places(item.rows, per_label, labels_used)
    p, n = len(places), int(item.rows[places].sum())
    parameters: Parameters = {"classes": p, "per_label": per_label, "d": item.d}
    reason = "n" if item.d == 0 or item.n == 0 else "classes" if p < 2 else ""
    if reason:
        return Estimate.missing(
            reason, unit="ratio", n=n, estimator=POOLED, version=VERSION, parameters=parameters
        )
    values = np.linalg.svd(item.centroids()[places], compute_uv=False)
    return Estimate(
        value=float(values.sum()) / math.sqrt(p * min(p, item.d)),
        unit="ratio",
        n=n,
        estimator=POOLED,
        version=VERSION,
        ceiling=1.0,
        parameters=parameters,
    )


def _missing(reason: str, n: int, d: int, per_label: int) -> ManifoldCapacity:
    capacity, spread = (
        Estimate.missing(
            reason,
            unit=UNITS[name],
            n=n,
            estimator=name,
            version=VERSION,
            parameters={"d": d, "per_label": per_label},
        )
        for name in (CAPACITY, SPREAD)
    )
    return ManifoldCapacity(capacity, spread)
