"""Soft entropy of representations, and soft mutual information with labels.

Rows are assigned softly to m fixed points of the unit sphere (`SoftReference`). The entropy of
the mean assignment, over ln m, is the soft entropy (Conklin, "Learning is Forgetting: LLM Training
as Lossy Compression", ICLR 2026); that entropy less the labels' mean entropy is the soft mutual
information. The published form reads .31 for 500 random labels of 2048 rows; here the mean over
shuffled labels is subtracted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infoplane.estimators.entropy.soft_assignments import (
    Assignments,
    SortedLabels,
    assign,
    chunks,
    entropies,
    entropy_terms,
    error_of_mean,
    label_means,
    label_terms,
)
from infoplane.estimators.entropy.soft_verdicts import (
    entropy_estimate,
    information_estimate,
    missing,
)
from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.blocks import Scratch
from infoplane.estimators.mutual_information.labels import entropy_of_counts
from infoplane.estimators.mutual_information.pairings import row_orders
from infoplane.estimators.state.soft_counts import MAX_LABELS
from infoplane.estimators.state.soft_reference import MIN_WIDTH, Calibration, SoftReference

MIN_ROWS = 2


@dataclass(frozen=True, slots=True)
class SoftInformation:
    """Both readings of one set of assignments.

    Attributes:
        entropy: As `soft_entropy`.
        information: As `soft_mi`.
    """

    entropy: Estimate
    information: Estimate


def soft_entropy(
    x: Tensor,
    *,
    reference_seed: int = 0,
    points: int = 100,
    calibration: Calibration = "bound",
) -> list[Estimate]:
    """Return the soft entropy of every item: H of the mean assignment over ln m, 0 .. 1.

    Only directions count: rows are divided by their norm, and a row of zeros is spread evenly. 1
    when directions are uniform. It does not fall to 0 for one direction but to the entropy of one
    row's own assignment, about 0.53 with 100 points. It reads low by at most about
    (points - 1) / 2n nats.

    Null: none. Ceiling: 1; ``saturated`` above 0.99, where it hardly moves. Band: value +- 1.96
    standard errors, first order, for independent rows.

    Undefined: ``"d"`` below 2 columns, ``"n"`` below 2 rows, ``"nan"`` with any non-finite
    number, ``"constant"`` when all numbers are 0 and no row has a direction.

    Args:
        x: Shape ``(t, n, d)``, on any device.
        reference_seed: Seed of the reference points; same points on all devices.
        points: Number m of reference points.
        calibration: See `SoftReference`.

    Returns:
        ``t`` estimates in ``ratio``. Cost O(t n d m), float32.

    Raises:
        ValueError: If ``x`` has not three dimensions, or a setting is out of range.
    """
    if x.ndim != 3:
        raise ValueError(f"x: expected shape (t, n, d), got {tuple(x.shape)}")
    t, n, d = x.shape
    reference = SoftReference(max(d, MIN_WIDTH), points, reference_seed, calibration)
    early = _early(n, d)
    if early:
        return [missing("soft_entropy", early, n, reference)] * t
    found: list[Estimate] = []
    scratch = Scratch()
    for items in chunks(t, n * points, x.device):
        found += _entropies(assign(x[items], reference, scratch=scratch), reference)
    return found


def soft_mi(
    x: Tensor,
    labels: Tensor,
    *,
    seeds: Sequence[int],
    reference_seed: int = 0,
    points: int = 100,
    permutations: int = 8,
    max_labels: int = MAX_LABELS,
    calibration: Calibration = "bound",
) -> list[Estimate]:
    """Return the soft mutual information of every item with its labels, over ln m.

    Raw value: H of the mean assignment less the mean over rows of their label's H. Published
    value: raw less its mean over ``permutations`` shuffles of the labels; ``parameters`` hold
    the raw value and that mean as ``raw`` and ``raw_null``. With ``permutations = 0`` the value
    is the raw one. The raw value's expectation is at most that of a channel through the
    assignment, so it tends to a lower bound of I(X;label) / ln m as n grows.

    Null: 0 by construction; ``null_sd`` is the spread of a shuffle about the mean subtracted.
    Ceiling: the smaller of the labels' entropy and of what an assignment says about its own row
    (what labels that are all distinct would have, raw; from at most 512 rows), over ln m; saturated above 0.8 of it.
    Band: value +- 1.96 standard errors of the rows' terms and of the null's mean; sampling noise
    of independent rows.

    Undefined: ``"d"``, ``"n"``, ``"nan"``, ``"constant"`` as in `soft_entropy`; ``"classes"`` for
    one label.

    Args:
        x: Shape ``(t, n, d)``, on any device.
        labels: Shape ``(t, n)``, integers.
        seeds: One per item, for the shuffles.
        reference_seed: Seed of the reference points; same points on all devices.
        points: Number m of reference points.
        permutations: Shuffles of the null.
        max_labels: Labels kept apart, those of smallest value; the others count as one. As in
            `SoftCounts`.
        calibration: See `SoftReference`.

    Returns:
        ``t`` estimates in ``ratio``. Cost O(t n m (d + permutations)), float32.

    Raises:
        ValueError: If shapes, the number of seeds or a setting do not fit.
    """
    found = soft_information(
        x,
        labels,
        seeds=seeds,
        reference_seed=reference_seed,
        points=points,
        permutations=permutations,
        max_labels=max_labels,
        calibration=calibration,
    )
    return [item.information for item in found]


def soft_information(
    x: Tensor,
    labels: Tensor,
    *,
    seeds: Sequence[int],
    reference_seed: int = 0,
    points: int = 100,
    permutations: int = 8,
    max_labels: int = MAX_LABELS,
    calibration: Calibration = "bound",
) -> list[SoftInformation]:
    """Return what `soft_entropy` and `soft_mi` return, from one pass over the rows."""
    t, n, d = _check(x, labels, seeds, permutations, max_labels)
    reference = SoftReference(max(d, MIN_WIDTH), points, reference_seed, calibration)
    early = _early(n, d)
    if early or t == 0:
        undefined = (
            missing(name, early or "n", n, reference) for name in ("soft_entropy", "soft_mi")
        )
        return [SoftInformation(*undefined)] * t
    held = SortedLabels.of(labels.to(x.device), max_labels=max_labels)
    orders = held.order.unsqueeze(1)
    if permutations:
        drawn = row_orders(seeds, n, permutations=permutations, device=x.device)
        orders = torch.cat([orders, drawn[:, 1:]], 1)
    found: list[SoftInformation] = []
    scratch = Scratch()
    # Label means are written and read once per shuffle, and should stay in the cache.
    for items in chunks(t, max(n, 4 * held.sizes.shape[1]) * points, x.device):
        part = SortedLabels(held.order[items], held.numbers[items], held.sizes[items])
        assigned = assign(x[items], reference, scratch=scratch)
        informations = _informations(assigned, part, orders[items], reference, max_labels)
        found += [
            SoftInformation(*pair)
            for pair in zip(_entropies(assigned, reference), informations, strict=True)
        ]
    return found


def _entropies(assigned: Assignments, reference: SoftReference) -> list[Estimate]:
    t, n, _ = assigned.shares.shape
    errors = error_of_mean(entropy_terms(assigned), n)
    values = entropies(assigned.mean).tolist()
    return [
        missing("soft_entropy", assigned.reasons[i], n, reference)
        if assigned.reasons[i]
        else entropy_estimate(values[i], errors[i], n, reference)
        for i in range(t)
    ]


def _informations(
    assigned: Assignments,
    labels: SortedLabels,
    orders: Tensor,
    reference: SoftReference,
    max_labels: int,
) -> list[Estimate]:
    n = assigned.shares.shape[1]
    weight = (labels.sizes / n).to(torch.float64)
    held, means = [], None
    # A shuffle at a time: their label means together would leave the cache.
    for j in range(orders.shape[1]):
        found = label_means(assigned.shares, labels.sizes, orders[:, j : j + 1])[:, 0]
        means = found if means is None else means
        held.append((weight * entropies(found)).sum(-1))
    entropy = entropies(assigned.mean)
    raw = (entropy.unsqueeze(-1) - torch.stack(held, -1)).tolist()
    assert means is not None
    errors = error_of_mean(label_terms(assigned, means, labels), n)
    own = (entropy - assigned.own).tolist()
    estimates = []
    for i, sizes in enumerate(labels.sizes.cpu().numpy()):
        reason = assigned.reasons[i] or ("classes" if (sizes > 0).sum() < 2 else "")
        ceiling = min(entropy_of_counts(sizes), own[i])
        estimates.append(
            missing("soft_mi", reason, n, reference)
            if reason
            else information_estimate(
                raw[i][0], raw[i][1:], errors[i], ceiling, n, reference, max_labels
            )
        )
    return estimates


def _early(n: int, d: int) -> str:
    return "d" if d < MIN_WIDTH else "n" if n < MIN_ROWS else ""


def _check(
    x: Tensor, labels: Tensor, seeds: Sequence[int], permutations: int, max_labels: int
) -> tuple[int, int, int]:
    if x.ndim != 3 or labels.shape != x.shape[:2] or len(seeds) != x.shape[0]:
        raise ValueError(
            f"x, labels, seeds: expected (t, n, d), (t, n), t; "
            f"got {tuple(x.shape)}, {tuple(labels.shape)}, {len(seeds)}"
        )
    if permutations < 0 or max_labels < 0:
        raise ValueError(
            f"permutations, max_labels: expected 0 or more, got {permutations}, {max_labels}"
        )
    t, n, d = x.shape
    return t, n, d
