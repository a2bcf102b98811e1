"""Diffusion spectral mutual information: entropy that a label takes away, size for size.

DSMI of "Assessing Neural Network Representations During Training Using Noise-Resilient Diffusion
Spectral Entropy" (Liao et al., 2023). The entropy grows with the number of rows, so that a class is
compared with random sets of rows as large as itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.geometry.diffusion_entropy import (
    CHUNK_ELEMENTS,
    bandwidth_parameters,
    check_items,
    undefined_reasons,
)
from infoplane.estimators.geometry.diffusion_kernel import (
    Kernel,
    bandwidths_of,
    gram,
    normalise,
    spectral_entropy,
)
from infoplane.estimators.mutual_information.labels import label_entropy
from infoplane.estimators.mutual_information.verdicts import SATURATION, null_of

ESTIMATOR = "diffusion_mi"
VERSION = 1
PADDING = 8
"""Sets of rows are filled up to a multiple of this, so that sets of like size share a batch."""


@dataclass(frozen=True, slots=True)
class ClassSets:
    """Sets of rows of one class of an item; all of the class's size.

    Attributes:
        share: The class's share of the rows.
        members: Rows of the class, shape ``(m,)``.
        references: Random rows of any class, shape ``(repetitions, m)``.
        nulls: Rows that have this label after a permutation, shape ``(permutations, m)``.
    """

    share: float
    members: Tensor
    references: Tensor
    nulls: Tensor

    def all_sets(self) -> list[Tensor]:
        """Return members, references and nulls, in this order."""
        return [self.members, *self.references, *self.nulls]


class Reading(NamedTuple):
    """Information in bits, and that of permuted labels."""

    value: float
    nulls: list[float]


def diffusion_mi(
    x: Tensor,
    labels: Tensor,
    *,
    bandwidths: Sequence[float] | None,
    seeds: Sequence[int],
    kernel: Kernel = "walk",
    power: float = 1,
    repetitions: int = 5,
    permutations: int = 1,
) -> list[Estimate]:
    """Return the diffusion spectral mutual information with a label in bits, for every item.

    sum_c p_c [mean of the `diffusion_entropy` of ``repetitions`` random sets of n_c rows, without
    replacement - that of the n_c rows of class c]. Classes of one row have no entropy and add 0
    with their share, as in the reference package; so do not use it where most classes are single.

    Null: labels permuted, ``permutations`` times, against the same random sets; it costs one more
    set per class each. Ceiling: the label's Miller-Madow entropy, or sum_c p_c log2 n_c when less,
    in bits; saturated above 0.8 of it, where the classes are separate groups. Values may be
    negative. Band: none. Impure classes vary more than random sets do, and quarters of the rows
    leave too little of a class: bands from either covered 43 and 55 % with ten classes and 30 %
    of labels drawn anew. Judge a value by its null and by its neighbours in time.

    Undefined: ``"n"`` below 2 rows, ``"nan"``, ``"classes"`` for one class or when no class has
    two rows, ``"bandwidth"``, ``"constant"`` and ``"duplicates"`` as in `diffusion_entropy`.

    Args:
        x: Shape ``(t, n, d)``.
        labels: Shape ``(t, n)``, integers.
        bandwidths: One per item, e.g. `median_distance` of a reference window; None takes the
            item's own median.
        seeds: One per item, for the random sets and the permutations.
        kernel: Normalisation, as in `diffusion_entropy`.
        power: Steps of the walk.
        repetitions: Random sets per class, 1 or more.
        permutations: Draws of the null; 0 for none.

    Returns:
        ``t`` estimates. Cost O(t (1 + repetitions + permutations) sum_c (n_c^2 d + 4/3 n_c^3)), float64.

    Raises:
        ValueError: If shapes or the number of seeds or bandwidths do not fit, for an unknown
            kernel, a power not above 0, or fewer than 1 repetitions or 0 permutations.
    """
    check_items(x, bandwidths, seeds, kernel, power)
    if labels.shape != x.shape[:2]:
        raise ValueError(f"labels: expected {tuple(x.shape[:2])}, got {tuple(labels.shape)}")
    if repetitions < 1 or permutations < 0:
        raise ValueError(
            "repetitions, permutations: expected at least 1 and 0, "
            f"got {repetitions} and {permutations}"
        )
    t, n, d = x.shape
    scale, median = bandwidths_of(x, bandwidths)
    reasons = undefined_reasons(x, scale, given=bandwidths is not None)
    settings: dict[str, float | int | str] = {
        "d": d,
        "rows": n,
        "kernel": kernel,
        "power": power,
        "repetitions": repetitions,
        "bandwidth_source": "window" if bandwidths is None else "given",
    }
    plans: dict[int, list[ClassSets]] = {}
    names = labels.cpu().numpy()
    for i in range(t):
        sets = class_sets(names[i], seeds[i], repetitions, permutations)
        if not reasons[i] and not sets:
            reasons[i] = "classes"
        if not reasons[i]:
            plans[i] = sets
    readings = information_of_sets(x, scale, plans, kernel=kernel, power=power)
    return [
        _estimate(
            readings[i],
            _ceiling(names[i]),
            n,
            settings
            | {"classes": np.unique(names[i]).size}
            | bandwidth_parameters(scale[i], median[i]),
        )
        if i in readings
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


def class_sets(
    labels: npt.NDArray[np.int64], seed: int, repetitions: int, permutations: int
) -> list[ClassSets]:
    """Return the sets of rows of every class with two or more, in the order of the labels.

    Empty for fewer than two classes.
    """
    n = labels.size
    kinds, counts = np.unique(labels, return_counts=True)
    if kinds.size < 2:
        return []
    generator = torch.Generator().manual_seed(seed % 2**63)
    orders = torch.stack(
        [torch.arange(n)] + [torch.randperm(n, generator=generator) for _ in range(permutations)]
    )
    by_class = torch.from_numpy(np.argsort(labels, kind="stable"))
    sets, start = [], 0
    for size in counts.tolist():
        rows = by_class[start : start + size]
        start += size
        if size < 2:
            continue
        draws = [torch.randperm(n, generator=generator)[:size] for _ in range(repetitions)]
        sets.append(ClassSets(size / n, rows, torch.stack(draws), orders[1:, rows]))
    return sets


def information_of_sets(
    x: Tensor,
    bandwidths: Tensor,
    plans: Mapping[int, Sequence[ClassSets]],
    *,
    kernel: Kernel,
    power: float,
) -> dict[int, Reading]:
    """Return the information of every item that has a plan.

    Args:
        x: Shape ``(t, n, d)``; items with a plan are finite.
        bandwidths: Shape ``(t,)``, above 0 for items with a plan.
        plans: By item, the sets of all its classes.
        kernel: Normalisation.
        power: Steps of the walk.
    """
    jobs = [(item, rows) for item, plan in plans.items() for one in plan for rows in one.all_sets()]
    bits = iter(_entropies(x, bandwidths, jobs, kernel, power))
    return {item: _reading(plan, bits) for item, plan in plans.items()}


def _entropies(
    x: Tensor,
    bandwidths: Tensor,
    jobs: Sequence[tuple[int, Tensor]],
    kernel: Kernel,
    power: float,
) -> list[float]:
    """Return the entropy in bits of every (item, rows), sets of about equal size together."""
    budget = CHUNK_ELEMENTS.get(x.device.type, CHUNK_ELEMENTS["cuda"])
    groups: dict[int, list[int]] = {}
    for j, (_, rows) in enumerate(jobs):
        groups.setdefault(-(-rows.numel() // PADDING) * PADDING, []).append(j)
    bits = [0.0] * len(jobs)
    for size, group in groups.items():
        step = max(1, budget // size**2)
        for start in range(0, len(group), step):
            part = group[start : start + step]
            operators = _padded_operators(x, bandwidths, [jobs[j] for j in part], size, kernel)
            for j, value in zip(part, spectral_entropy(operators, power).tolist(), strict=True):
                bits[j] = value
    return bits


def _padded_operators(
    x: Tensor, bandwidths: Tensor, jobs: Sequence[tuple[int, Tensor]], size: int, kernel: Kernel
) -> Tensor:
    """Return the operators of sets of rows, filled up to ``size``, ``(b, size, size)``.

    What fills them is connected to nothing, not even to itself: it adds eigenvalues of 0, which
    leave the entropy as it is.
    """
    index = torch.full((len(jobs), size), -1)
    for place, (_, rows) in enumerate(jobs):
        index[place, : rows.numel()] = rows
    item = torch.tensor([item for item, _ in jobs], device=x.device)
    index = index.to(x.device)
    sets = x[item.unsqueeze(-1), index.clamp(min=0)]
    held = (index >= 0).to(torch.float64)
    matrices = gram(sets, bandwidths[item], torch.float64)
    return normalise(matrices.mul_(held.unsqueeze(-1)).mul_(held.unsqueeze(-2)), kernel)


def _reading(plan: Sequence[ClassSets], bits: Iterator[float]) -> Reading:
    """Take every set's entropy from ``bits``, in the order of the sets."""
    value, nulls = 0.0, np.zeros(len(plan[0].nulls))
    for one in plan:
        own = next(bits)
        drawn = sum(next(bits) for _ in one.references) / len(one.references)
        value += one.share * (drawn - own)
        nulls += one.share * (drawn - np.array([next(bits) for _ in one.nulls]))
    return Reading(value, nulls.tolist())


def _ceiling(labels: npt.NDArray[np.int64]) -> float:
    counts = np.unique(labels, return_counts=True)[1].astype(np.float64)
    separate = float((counts / counts.sum() * np.log2(counts)).sum())
    return min(label_entropy(labels) / math.log(2.0), separate)


def _estimate(
    reading: Reading, ceiling: float, n: int, parameters: dict[str, float | int | str]
) -> Estimate:
    null_mean, null_sd = null_of(reading.nulls)
    return Estimate(
        value=reading.value,
        unit="bits",
        n=n,
        estimator=ESTIMATOR,
        version=VERSION,
        null_mean=null_mean,
        null_sd=null_sd,
        ceiling=ceiling,
        saturated=reading.value > SATURATION * ceiling,
        parameters=parameters,
    )
