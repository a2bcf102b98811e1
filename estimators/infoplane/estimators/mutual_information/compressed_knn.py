"""Mutual information after compression to few dimensions, from weighted entropies.

Butakov et al., "Information Bottleneck Analysis of Deep Neural Networks via Lossy Compression"
(ICLR 2024): compress each side, here by principal components, then
I = h(A) + h(B) - h(A, B) with the entropies of `weighted_kl_entropy`. A function of X cannot
tell more than X, so the value estimates a lower bound of I(X;Y); how much of the variance the
compression kept stands in ``parameters``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from infoplane.estimators.entropy.nearest_neighbours import (
    EntropyTerms,
    entropy_terms,
    jittered,
    smallest_sample,
    unit_scale,
    width_reason,
)
from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.labels import dense_labels, label_entropy
from infoplane.estimators.mutual_information.pairings import row_orders, take_rows
from infoplane.estimators.mutual_information.verdicts import (
    constant_items,
    estimates_of_terms,
    nonfinite_items,
)

ESTIMATOR = "compressed_knn"
ESTIMATOR_LABELS = "compressed_knn_labels"
VERSION = 1
NEIGHBOURS = 5
CEILING_NATS = 5.0
ROWS_PER_COLUMN = 4
"""A class needs this many rows for each component and one more; smaller ones are left out."""
FEWEST_KEPT = 0.5
SMALLEST_SHARE = 1e-12
"""Components below this share of the variance are rounding."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """Principal components of unit deviation, jittered.

    Attributes:
        rows: Shape ``(t, n, c)``.
        retained: Share of the variance that they hold, one per item.
    """

    rows: Tensor
    retained: list[float]


def compressed_knn(
    x: Tensor, y: Tensor, *, seeds: Sequence[int], components: int = 2, permutations: int = 1
) -> list[Estimate]:
    """Return I(A;B) in nats for every item, A and B the leading principal components of x and y.

    A lower bound of I(X;Y), and an estimate of it: sampling error goes both ways. It misses what
    lies outside the leading components, however strong. Values may be negative.

    Null: the same on ``permutations`` re-pairings of the rows. Ceiling: the smaller of 5 nats and
    ln n; saturated above 0.8 of it. Band: analytic, 1.96 standard errors of the rows' terms, for
    independent rows and without bias.

    Undefined: ``"d"`` when A and B together have more than 6 dimensions or one has none, ``"n"`` below 32 rows,
    ``"nan"``, ``"constant"`` when no column of x or y varies, ``"singular"`` when components are
    linearly dependent, as when y is a linear function of x, ``"duplicates"`` when more than a
    tenth of the rows repeat another on one side: quantised data need `heldout_ksg`.

    ``parameters``: components, retained_x and retained_y (shares of variance), k, widths.

    Args:
        x: Shape ``(t, n, dx)``.
        y: Shape ``(t, n, dy)``.
        seeds: One per item, for permutations and jitter.
        components: Kept of each side; narrower sides keep all.
        permutations: Draws of the null; 0 for none.

    Returns:
        ``t`` estimates. Cost O(t (d^3 + n d^2 + (3 + permutations) n^2)), float64.

    Raises:
        ValueError: If shapes or the number of seeds do not fit, or components < 1.
    """
    _check(x, y, seeds, components)
    t, n, dx = x.shape
    wide = min(components, dx) + min(components, y.shape[-1])
    common: dict[str, float | int | str] = {
        "components": components,
        "k": NEIGHBOURS,
        "dx": dx,
        "dy": y.shape[-1],
    }
    early = _early_reason(n, wide if dx and y.shape[-1] else 0)
    if early or t == 0:
        return _estimates([], [early] * t, n, [0.0] * t, ESTIMATOR, [common] * t)
    orders = row_orders(seeds, n, permutations=permutations, device=x.device)
    orders[:, 0] = torch.arange(n, device=x.device)
    a, b = _compressed(x, components, seeds, side=1), _compressed(y, components, seeds, side=2)
    partners = take_rows(b.rows, orders)
    held = torch.full((t,), n, device=x.device)
    alone = [entropy_terms(side.rows, held, k=NEIGHBOURS) for side in (a, b)]
    joint = [
        entropy_terms(torch.cat([a.rows, partners[:, j]], -1), held, k=NEIGHBOURS)
        for j in range(1 + permutations)
    ]
    second = alone[1].rows.unsqueeze(1).expand(-1, 1 + permutations, -1).gather(2, orders)
    terms = alone[0].rows.unsqueeze(1) + second - torch.stack([one.rows for one in joint], 1)
    found = [_first(*group) for group in zip(*(e.reasons for e in (*alone, joint[0])), strict=True)]
    flags = zip(nonfinite_items(x, y), constant_items(x), constant_items(y), found, strict=True)
    reasons = ["nan" if nan else "constant" if cx or cy else why for nan, cx, cy, why in flags]
    parameters = [
        {**common, "retained_x": kept, "retained_y": other}
        for kept, other in zip(a.retained, b.retained, strict=True)
    ]
    ceiling = min(CEILING_NATS, math.log(n))
    return _estimates([terms], reasons, n, [ceiling] * t, ESTIMATOR, parameters)


def compressed_knn_labels(
    x: Tensor, labels: Tensor, *, seeds: Sequence[int], components: int = 4, permutations: int = 1
) -> list[Estimate]:
    """Return I(A;label) = h(A) - sum_c p_c h(A|c) in nats, A the leading components of x.

    Every class is whitened and weighted on its own. Classes with fewer than 4 (components + 1)
    rows have no entropy to speak of: their rows are left out of all terms, and the value is that
    of the remaining rows. Coarsen labels before (`coarsen_labels`), so that few are left out.

    Null, band and undefined reasons as in `compressed_knn`, and ``"classes"`` when fewer than two
    classes remain, ``"n"`` also when less than half of the rows remain, ``"d"`` above 6
    components. Ceiling: the smaller of 5 nats and the entropy of the labels that remain.

    ``parameters``: components, retained_x (share of variance), kept_rows (share), k, dx.

    Args:
        x: Shape ``(t, n, d)``.
        labels: Shape ``(t, n)``, integers.
        seeds: One per item.
        components: Kept of x; a narrower x keeps all.
        permutations: Draws of the null; 0 for none.

    Returns:
        ``t`` estimates. Cost as `compressed_knn`.

    Raises:
        ValueError: If shapes or the number of seeds do not fit, or components < 1.
    """
    _check(x, labels.unsqueeze(-1), seeds, components)
    t, n, dx = x.shape
    wide = min(components, dx)
    common: dict[str, float | int | str] = {"components": components, "k": NEIGHBOURS, "dx": dx}
    early = _early_reason(n, wide)
    if early or t == 0:
        return _estimates([], [early] * t, n, [0.0] * t, ESTIMATOR_LABELS, [common] * t)
    dense, classes = dense_labels(labels.to(x.device))
    kept = _kept_rows(dense, max(classes), ROWS_PER_COLUMN * (wide + 1))
    share = kept.to(torch.float64).mean(-1).tolist()
    left = [int(torch.unique(item[mask]).numel()) for item, mask in zip(dense, kept, strict=True)]
    a = _compressed(x, components, seeds, side=1)
    pooled = _grouped_terms(a.rows, torch.where(kept, 0, -1))
    orders = row_orders(seeds, n, permutations=permutations, device=x.device)
    orders[:, 0] = torch.arange(n, device=x.device)
    terms, given = [], [""] * t
    for j in range(1 + permutations):
        # Labels change places among the kept rows only, so that classes keep their sizes.
        mixed = _permuted(torch.where(kept, dense, -1), orders[:, j])
        conditional = _grouped_terms(a.rows, mixed)
        terms.append(pooled.rows - conditional.rows)
        given = conditional.reasons if j == 0 else given
    ceilings = [
        min(CEILING_NATS, math.log(n), label_entropy(item[mask].cpu().numpy()))
        for item, mask in zip(dense, kept, strict=True)
    ]
    flags = zip(nonfinite_items(x), constant_items(x), classes, share, left, strict=True)
    base = [
        _first("nan" if nan else "", "constant" if flat else "", _class_reason(count, part, rest))
        for nan, flat, count, part, rest in flags
    ]
    reasons = [_first(*group) for group in zip(base, pooled.reasons, given, strict=True)]
    parameters = [
        {**common, "retained_x": variance, "kept_rows": part}
        for variance, part in zip(a.retained, share, strict=True)
    ]
    stacked = [torch.stack(terms, 1)]
    return _estimates(stacked, reasons, n, ceilings, ESTIMATOR_LABELS, parameters)


def _compressed(x: Tensor, components: int, seeds: Sequence[int], *, side: int) -> Compressed:
    """Return the leading principal components of ``x (t, n, d)``."""
    rows = torch.where(x.isfinite(), x, 0.0).to(torch.float64)
    rows = rows / rows.abs().amax((1, 2), keepdim=True).clamp(min=1e-300)
    rows = rows - rows.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh(rows.mT @ rows / rows.shape[1])
    values = values.clamp(min=0.0)
    leading = values[:, -components:]
    total = values.sum(-1, keepdim=True)
    # A component of rounding noise must not look like data: it stays constant.
    real = (leading > SMALLEST_SHARE * total).unsqueeze(1)
    scores, _ = unit_scale(rows @ vectors[..., -components:] * real)
    retained = (leading.sum(-1) / total.squeeze(-1).clamp(min=1e-300)).tolist()
    return Compressed(jittered(scores, [4 * seed + side for seed in seeds]), retained)


def _kept_rows(dense: Tensor, classes: int, fewest: int) -> Tensor:
    """Return which rows of ``dense (t, n)`` have a class of at least ``fewest`` rows."""
    counts = dense.new_zeros(dense.shape[0], classes)
    counts.scatter_add_(1, dense, torch.ones_like(dense))
    return counts.gather(1, dense) >= fewest


def _permuted(labels: Tensor, order: Tensor) -> Tensor:
    """Return labels of ``labels (t, n)`` in another order; rows of label -1 stay in place."""
    mixed = labels.clone()
    for item, old, rows in zip(mixed, labels, order, strict=True):
        moved = rows[old[rows] >= 0]
        item[old >= 0] = old[moved]
    return mixed


def _grouped_terms(x: Tensor, labels: Tensor) -> EntropyTerms:
    """Return the entropy terms of every row within its item and class, and reasons per item.

    Classes of like size are padded and taken together; rows of label -1 get NaN.

    Args:
        x: Shape ``(t, n, c)``.
        labels: Shape ``(t, n)``, -1 for rows that are left out.
    """
    t, n, d = x.shape
    flat = torch.full((t * n,), torch.nan, dtype=torch.float64, device=x.device)
    reasons = [""] * t
    code = torch.where(labels < 0, -1, labels + torch.arange(t, device=x.device)[:, None] * n)
    values, sizes = torch.unique(code, return_counts=True)
    order = code.flatten().argsort(stable=True)
    starts = sizes.cumsum(0) - sizes
    usable = (values >= 0) & (sizes >= smallest_sample(d, NEIGHBOURS))
    scale = sizes.to(torch.float64).log2().ceil().to(torch.int64)
    for size in scale[usable].unique().tolist():
        chosen = (usable & (scale == size)).nonzero().squeeze(-1)
        held = sizes[chosen]
        place = torch.arange(int(held.max()), device=x.device)
        present = place < held.unsqueeze(-1)
        index = order[torch.where(present, starts[chosen].unsqueeze(-1) + place, 0)]
        found = entropy_terms(x.reshape(t * n, d)[index], held, k=NEIGHBOURS)
        flat[index[present]] = found.rows[present]
        for item, reason in zip((values[chosen] // n).tolist(), found.reasons, strict=True):
            reasons[item] = reasons[item] or reason
    return EntropyTerms(flat.reshape(t, n), reasons)


def _class_reason(classes: int, share: float, left: int) -> str:
    """Return why classes give no value, or ``""``."""
    if classes < 2:
        return "classes"
    if share < FEWEST_KEPT:
        return "n"
    return "classes" if left < 2 else ""


def _early_reason(n: int, wide: int) -> str:
    return width_reason(wide, NEIGHBOURS) or ("n" if n < 32 else "")


def _first(*reasons: str) -> str:
    return next((reason for reason in reasons if reason), "")


def _estimates(
    terms: Sequence[Tensor],
    reasons: Sequence[str],
    n: int,
    ceilings: Sequence[float],
    estimator: str,
    parameters: Sequence[dict[str, float | int | str]],
) -> list[Estimate]:
    """Return one estimate per item, each with its own parameters."""
    found = estimates_of_terms(
        terms,
        n=n,
        reasons=reasons,
        ceilings=ceilings,
        estimator=estimator,
        version=VERSION,
        parameters={},
    )
    return [replace(item, parameters=own) for item, own in zip(found, parameters, strict=True)]


def _check(x: Tensor, y: Tensor, seeds: Sequence[int], components: int) -> None:
    if x.ndim != 3 or y.ndim != 3 or x.shape[:2] != y.shape[:2]:
        raise ValueError(
            f"x, y: expected (t, n, ...) of equal t and n, got {tuple(x.shape)}, {tuple(y.shape)}"
        )
    if len(seeds) != x.shape[0]:
        raise ValueError(f"seeds: expected {x.shape[0]}, one per item, got {len(seeds)}")
    if components < 1:
        raise ValueError(f"components: expected 1 or more, got {components}")
