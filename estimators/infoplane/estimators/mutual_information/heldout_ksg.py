"""The default mutual information: KSG on canonical directions that hold on other rows.

Plain KSG misses dependence in more than a few dimensions; a Gaussian formula sees it but
explodes on clustered data, and anything fitted on the rows it is judged on reports information
where there is none. So here:

1. every column becomes standard normal by rank; one column, the row's norm, is added;
2. canonical directions are fitted on two thirds of the rows, and the 4 leading ones applied to
   the last third; those without a held-out correlation of 3 standard errors are dropped;
3. KSG with k = 2 runs on the 1, 2 and 4 leading survivors; thirds take turns and are averaged;
4. KSG with k = 3 runs on all columns;
5. the value is the largest of these (of the last alone when nothing survived).

Every candidate is an estimate of a lower bound, because projections lose information, never
add it. Taking the largest costs a little upward bias, measured in docs/estimators.md. Labels
take halves instead of thirds, and up to 8 directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.held_variates import (
    HeldVariates,
    held_variates,
    with_energy,
)
from infoplane.estimators.mutual_information.ksg import ksg_labels_terms, ksg_terms
from infoplane.estimators.mutual_information.labels import (
    dense_labels,
    label_entropy,
    whitened_one_hot,
)
from infoplane.estimators.mutual_information.pairings import row_orders, take_rows
from infoplane.estimators.mutual_information.ranks import normal_scores
from infoplane.estimators.mutual_information.verdicts import (
    constant_items,
    estimates_of_terms,
    nonfinite_items,
)

ESTIMATOR = "heldout_ksg"
ESTIMATOR_LABELS = "heldout_ksg_labels"
VERSION = 1
RIDGE = 1e-2
MIN_ROWS = 32
CEILING_NATS = 5.0
CHUNK_ELEMENTS = 1 << 26
"""Items are taken together until their permuted copies reach this many elements (512 MB)."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of one form of the estimator; part of the metric's identity.

    Attributes:
        k_held: Neighbour on projected rows.
        k_full: Neighbour on all columns.
        folds: Parts that take turns to be held out.
        subspaces: Numbers of leading directions that are tried; the last one are fitted.
    """

    k_held: int
    k_full: int
    folds: int
    subspaces: tuple[int, ...]

    def parameters(self, **widths: int) -> dict[str, float | int | str]:
        """Return the settings as an estimate's parameters."""
        return {
            "k_held": self.k_held,
            "k_full": self.k_full,
            "folds": self.folds,
            "r": self.subspaces[-1],
            "ridge": RIDGE,
            **widths,
        }


PAIRS = Recipe(k_held=2, k_full=3, folds=3, subspaces=(1, 2, 4))
# Class means span more directions than pairs share, and need fewer rows to be found. In both
# forms a small k keeps the neighbours of rare combinations inside their cluster.
LABELS = Recipe(k_held=2, k_full=3, folds=2, subspaces=(1, 2, 4, 8))

HeldTerms = Callable[[HeldVariates, Tensor, int], Tensor]


def heldout_ksg(
    x: Tensor, y: Tensor, *, seeds: Sequence[int], permutations: int = 4
) -> list[Estimate]:
    """Return I(X;Y) in nats for every item; rows are pairs.

    Null: the same estimator on ``permutations`` random re-pairings of the rows; mean, and
    standard deviation when there are two or more. Ceiling: the smaller of 5 nats, where KSG
    flattens for n <= 8192, and psi(n) - psi(3), where every ball holds only its own
    neighbours; saturated above 0.8 of it. Band: value +- 1.96 standard errors of the mean of
    the rows' terms; sampling noise of independent rows only, not the estimator's bias.

    Undefined: ``"n"`` below 32 rows, ``"nan"`` with any non-finite number, ``"constant"`` when
    no column of x or of y varies.

    Args:
        x: Shape ``(t, n, dx)``, on any device.
        y: Shape ``(t, n, dy)``.
        seeds: One per item, for splits, permutations and jitter.
        permutations: Draws of the null; 0 for none, when a caller carries one over.

    Returns:
        ``t`` estimates. Cost O(t (1 + permutations) n^2 (dx + dy)), all in float64: 6 items of
        n = 1024 and d = 64 with 4 permutations take about 1 s on one core.

    Raises:
        ValueError: If shapes or the number of seeds do not fit.
    """
    _check(x, y, seeds)
    t, n, _ = x.shape
    reasons = _reasons(n, [nonfinite_items(x, y)], [constant_items(x), constant_items(y)])
    size = (1 + permutations) * n * (x.shape[-1] + y.shape[-1])
    terms = [
        _pair_terms(x[items], y[items], seeds[items], permutations)
        for items in _chunks(t if n >= MIN_ROWS else 0, size)
    ]
    return estimates_of_terms(
        terms,
        n=n,
        reasons=reasons,
        ceilings=[_ceiling(n, PAIRS.k_full)] * t,
        estimator=ESTIMATOR,
        version=VERSION,
        parameters=PAIRS.parameters(dx=x.shape[-1], dy=y.shape[-1]),
    )


def heldout_ksg_labels(
    x: Tensor, labels: Tensor, *, seeds: Sequence[int], permutations: int = 4
) -> list[Estimate]:
    """Return I(X;label) in nats for every item.

    The label enters the correlation analysis as a one-hot code and the neighbour counts by
    Ross's discrete form, so it is never treated as a number. Rows whose label occurs once in
    a fold are left out. Null, band and undefined reasons as in `heldout_ksg`, and
    ``"classes"`` when there is only one label. Ceiling: the smaller of that of `heldout_ksg`
    and the label's entropy (Miller-Madow).

    Args:
        x: Shape ``(t, n, d)``.
        labels: Shape ``(t, n)``, integers.
        seeds: One per item.
        permutations: Draws of the null, 0 for none.

    Returns:
        ``t`` estimates. Cost as `heldout_ksg`.

    Raises:
        ValueError: If shapes or the number of seeds do not fit.
    """
    _check(x, labels, seeds)
    t, n, _ = x.shape
    dense, classes = dense_labels(labels.cpu())
    single = [count < 2 for count in classes]
    reasons = _reasons(n, [nonfinite_items(x)], [constant_items(x)])
    reasons = [r or ("classes" if s else "") for r, s in zip(reasons, single, strict=True)]
    dense = dense.to(x.device)
    size = (1 + permutations) * n * (x.shape[-1] + max(classes, default=1))
    terms = [
        _label_terms(x[items], dense[items], max(classes[items]), seeds[items], permutations)
        for items in _chunks(t if n >= MIN_ROWS else 0, size)
    ]
    limit = _ceiling(n, LABELS.k_full)
    return estimates_of_terms(
        terms,
        n=n,
        reasons=reasons,
        ceilings=[min(limit, label_entropy(item.numpy())) for item in labels.cpu()],
        estimator=ESTIMATOR_LABELS,
        version=VERSION,
        parameters=LABELS.parameters(dx=x.shape[-1]),
    )


def _pair_terms(x: Tensor, y: Tensor, seeds: Sequence[int], permutations: int) -> Tensor:
    """Return the rows' terms of the chosen candidate, ``(t, 1 + permutations, n)``."""
    n = x.shape[1]
    # One order deals rows to folds, the others re-pair them.
    orders = row_orders(seeds, n, permutations=permutations, device=x.device)
    u = take_rows(_scores(x, seeds, side=1), orders[:, :1])
    v = take_rows(_scores(y, seeds, side=2), orders)
    dx, dy = x.shape[-1], y.shape[-1]
    full = ksg_terms(u[:, 0, :, :dx] / math.sqrt(dx), v[..., :dy] / math.sqrt(dy), k=PAIRS.k_full)
    u = u[:, 0]

    def held_terms(fold: HeldVariates, items: Tensor, count: int) -> Tensor:
        a, b = fold.leading(items, count)
        return ksg_terms(a, b.unsqueeze(1), k=PAIRS.k_held).squeeze(1)

    # One permutation at a time keeps the working set small.
    chosen = [_largest(full[:, j], u, v[:, j], held_terms, PAIRS) for j in range(1 + permutations)]
    return torch.stack(chosen, 1)


def _label_terms(
    x: Tensor, labels: Tensor, classes: int, seeds: Sequence[int], permutations: int
) -> Tensor:
    """Return the rows' terms of the chosen candidate, ``(t, 1 + permutations, n)``."""
    n = x.shape[1]
    orders = row_orders(seeds, n, permutations=permutations, device=x.device)
    u = take_rows(_scores(x, seeds, side=1), orders[:, :1])[:, 0]
    partners = take_rows(labels.unsqueeze(-1), orders).squeeze(-1)
    full = ksg_labels_terms(u[..., : x.shape[-1]], partners, k=LABELS.k_full)
    chosen = []
    for j in range(1 + permutations):
        partner = partners[:, j]

        def held_terms(
            fold: HeldVariates, items: Tensor, count: int, partner: Tensor = partner
        ) -> Tensor:
            a, _ = fold.leading(items, count)
            part = partner[items][:, fold.rows].unsqueeze(1)
            return ksg_labels_terms(a, part, k=LABELS.k_held).squeeze(1)

        code = whitened_one_hot(partner, classes)
        chosen.append(_largest(full[:, j], u, code, held_terms, LABELS))
    return torch.stack(chosen, 1)


def _largest(full: Tensor, x: Tensor, y: Tensor, held_terms: HeldTerms, recipe: Recipe) -> Tensor:
    """Return the terms of the candidate with the largest mean.

    Args:
        full: Terms on all columns, ``(t, n)``.
        x: Shape ``(t, n, dx)``.
        y: Shape ``(t, n, dy)``.
        held_terms: Gives the terms ``(items, m)`` of a fold, for items and a subspace.
        recipe: Folds and subspaces.
    """
    subspaces = recipe.subspaces
    held = full.new_zeros(len(subspaces), *full.shape)
    survived = torch.zeros(full.shape[0], dtype=torch.bool, device=full.device)
    for fold in held_variates(x, y, folds=recipe.folds, r=subspaces[-1], ridge=RIDGE):
        count = fold.rank.amax(-1)
        survived |= count > 0
        for i, size in enumerate(subspaces):
            # A subspace that adds no direction repeats the one before it.
            fresh = count > (subspaces[i - 1] if i else 0)
            if i:
                held[i, :, fold.rows] = held[i - 1, :, fold.rows]
            items = fresh.nonzero().squeeze(-1)
            if items.numel():
                held[i, items, fold.rows] = held_terms(fold, items, size)
    candidates = torch.cat([full.unsqueeze(0), held])
    means = candidates.nanmean(-1)
    means[1:, ~survived] = -torch.inf
    best = means.nan_to_num(nan=-torch.inf).argmax(0)
    # Rows without any usable neighbour say nothing, whatever a projection of them says.
    best = torch.where(means[0].isnan(), 0, best)
    return candidates[best, torch.arange(full.shape[0], device=full.device)]


def _scores(x: Tensor, seeds: Sequence[int], *, side: int) -> Tensor:
    """Return jittered normal scores and energy; the sides of a pair draw different noise."""
    finite = torch.where(x.isfinite(), x, 0.0)
    return with_energy(normal_scores(finite, seeds=[seed * 4 + side for seed in seeds]))


def _ceiling(n: int, k: int) -> float:
    if n <= k:
        return 0.0
    digamma = torch.digamma(torch.tensor([n, k], dtype=torch.float64))
    return min(CEILING_NATS, float(digamma[0] - digamma[1]))


def _reasons(n: int, nan: list[list[bool]], constant: list[list[bool]]) -> list[str]:
    """Return for every item why it is undefined, ``""`` when it is not."""
    reasons = []
    for flags in zip(*nan, *constant, strict=True):
        if n < MIN_ROWS:
            reasons.append("n")
        elif any(flags[: len(nan)]):
            reasons.append("nan")
        else:
            reasons.append("constant" if any(flags[len(nan) :]) else "")
    return reasons


def _chunks(t: int, size: int) -> Iterator[slice]:
    step = max(1, CHUNK_ELEMENTS // max(size, 1))
    for start in range(0, t, step):
        yield slice(start, min(t, start + step))


def _check(x: Tensor, y: Tensor, seeds: Sequence[int]) -> None:
    if x.ndim != 3 or x.shape[:2] != y.shape[:2]:
        raise ValueError(f"x, y: expected (t, n, ...) of equal t and n, got {x.shape}, {y.shape}")
    if len(seeds) != x.shape[0]:
        raise ValueError(f"seeds: expected {x.shape[0]}, one per item, got {len(seeds)}")
