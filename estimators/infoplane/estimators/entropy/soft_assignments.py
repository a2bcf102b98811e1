"""Soft assignments of batches of rows, and their means by label."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from infoplane.estimators.mutual_information.blocks import Scratch
from infoplane.estimators.mutual_information.row_products import row_products
from infoplane.estimators.state.soft_reference import SoftReference

SMALL, LARGE = 1e-15, 1e15
"""Lengths of rows whose squares float32 holds."""
CHUNK_ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 26}
"""Elements of the assignments, and of the label means, that are taken together."""
SCORE_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 26}
"""Elements of the scores that are taken together; on a CPU they should stay in the cache."""
SPREAD_ROWS = 512
"""Rows, evenly spread, that standard errors and ceilings are taken from."""


@dataclass(frozen=True, slots=True)
class Assignments:
    """Assignments of some items.

    Attributes:
        shares: Shape ``(t, n, m)``, float32, sum 1 over m.
        mean: Mean over the rows, ``(t, m)``.
        own: Mean entropy of a row's own assignment, of at most 512 rows, ``(t,)``, float64, nats.
        reasons: Per item why it is undefined, or ``""``.
    """

    shares: Tensor
    mean: Tensor
    own: Tensor
    reasons: list[str]


@dataclass(frozen=True, slots=True)
class SortedLabels:
    """Labels of some items in ascending order, numbered 0, 1 ...

    Attributes:
        order: Rows in the order of their labels, ``(t, n)``.
        numbers: Their labels' numbers, ``(t, n)``, ascending.
        sizes: Rows of each number, ``(t, classes)``.
    """

    order: Tensor
    numbers: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, labels: Tensor, *, max_labels: int) -> SortedLabels:
        """Number ``labels (t, n)``; all from the ``max_labels``-th on share one number."""
        values, order = labels.sort(dim=1, stable=True)
        first = torch.zeros_like(values[:, :1])
        steps = (values[:, 1:] != values[:, :-1]).to(torch.int64)
        numbers = torch.cat([first, steps], 1).cumsum(1).clamp(max=max_labels)
        sizes = torch.zeros(len(labels), int(numbers.max()) + 1, dtype=torch.int64)
        sizes = sizes.to(labels.device).scatter_add_(1, numbers, torch.ones_like(numbers))
        return cls(order, numbers, sizes)


def assign(x: Tensor, reference: SoftReference, *, scratch: Scratch | None = None) -> Assignments:
    """Assign rows ``x (t, n, d)``, float32; the shares lie in ``scratch`` if that is given."""
    rows = x.to(torch.float32)
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    bad = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    # Squares overflow and vanish; any non-finite number comes here too.
    if not bool(((length > SMALL) & (length < LARGE)).all()):
        bad = ~x.isfinite().flatten(1).all(-1)
        rows = _in_range(x)
        length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    empty = (length == 0).flatten(1).all(-1)
    shares = _shares(rows, length, reference, scratch or Scratch())
    flags = zip(bad.tolist(), empty.tolist(), strict=True)
    reasons = ["nan" if nan else "constant" if zero else "" for nan, zero in flags]
    some = _spread(shares)
    own = torch.linalg.vecdot(some, logarithm(some)).mean(-1, dtype=torch.float64).neg_()
    return Assignments(shares, shares.mean(1), own, reasons)


def _shares(rows: Tensor, length: Tensor, reference: SoftReference, scratch: Scratch) -> Tensor:
    """Return the softmax of all rows' scores, ``(t, n, m)``."""
    t, n, _ = rows.shape
    directions = _directions(reference, rows.device)
    flat, points = rows.flatten(0, 1), reference.points
    scale = (length.clamp(min=1e-30) * reference.temperature()).reciprocal_().flatten(0, 1)
    shares = scratch.take("shares", (t * n, points), rows)
    step = max(1, SCORE_ELEMENTS.get(rows.device.type, SCORE_ELEMENTS["cuda"]) // points)
    for start in range(0, t * n, step):
        part = slice(start, start + step)
        score = row_products(flat[part], directions).mul_(scale[part])
        torch.softmax(score, -1, out=shares[part])
    return shares.view(t, n, points)


@lru_cache(maxsize=16)
def _directions(reference: SoftReference, device: torch.device) -> Tensor:
    return torch.tensor(reference.directions(), dtype=torch.float32, device=device)


def label_means(shares: Tensor, sizes: Tensor, orders: Tensor) -> Tensor:
    """Return every label's mean assignment under every order of rows, ``(t, p, classes, m)``.

    Rows in the given order are cut into runs of the labels' sizes: the labels' own order gives
    their means, another order those of shuffled labels. A bag of embeddings does that in one
    pass, in a fixed order of summation on every device.

    Args:
        shares: Shape ``(t, n, m)``.
        sizes: Shape ``(t, classes)``.
        orders: Shape ``(t, p, n)``.
    """
    t, n, m = shares.shape
    p, classes = orders.shape[1], sizes.shape[1]
    item = torch.arange(t, device=shares.device).view(t, 1, 1)
    draw = torch.arange(p, device=shares.device).view(1, p, 1)
    index = (orders + n * item).flatten()
    starts = (sizes.cumsum(1) - sizes).unsqueeze(1)
    offsets = (starts + n * (draw + p * item)).flatten()
    sums = torch.nn.functional.embedding_bag(index, shares.flatten(0, 1), offsets, mode="sum")
    return sums.view(t, p, classes, m).div_(sizes.clamp(min=1).view(t, 1, classes, 1))


def label_terms(assignments: Assignments, means: Tensor, labels: SortedLabels) -> Tensor:
    """Return sum_k share_k ln(mean of the row's label / mean of all) of some rows, ``(t, e)``.

    Args:
        assignments: Assignments of ``t`` items.
        means: Their labels' means, ``(t, classes, m)``.
        labels: Their labels.
    """
    shares = assignments.shares
    t, n, _ = shares.shape
    order, numbers = _spread(labels.order), _spread(labels.numbers)
    gain = logarithm(means) - logarithm(assignments.mean).unsqueeze(1)
    item = torch.arange(t, device=shares.device).unsqueeze(-1)
    rows = shares.flatten(0, 1).index_select(0, (order + n * item).flatten())
    gains = gain.flatten(0, 1).index_select(0, (numbers + means.shape[1] * item).flatten())
    terms: Tensor = torch.linalg.vecdot(rows, gains)
    return terms.view(t, -1)


def entropies(means: Tensor) -> Tensor:
    """Return the entropy of ``means (..., m)`` in nats, float64."""
    return -(means * logarithm(means)).sum(-1, dtype=torch.float64)


def logarithm(shares: Tensor) -> Tensor:
    """Return the logarithm, of 1e-30 where a share is less."""
    return shares.clamp(min=1e-30).log_()


def chunks(t: int, width: int, device: torch.device) -> Iterator[slice]:
    """Yield slices of items of bounded work; ``width`` elements an item."""
    budget = CHUNK_ELEMENTS.get(device.type, CHUNK_ELEMENTS["cuda"])
    size = max(1, budget // max(width, 1))
    for start in range(0, t, size):
        yield slice(start, min(t, start + size))


def error_of_mean(terms: Tensor, n: int) -> list[float]:
    """Return the standard error of the mean of ``n`` rows from some rows' ``terms (t, e)``."""
    return (terms.to(torch.float64).std(-1) / math.sqrt(n)).tolist()


def entropy_terms(assignments: Assignments) -> Tensor:
    """Return sum_k share_k ln(mean share of all)_k of some rows, ``(t, e)``."""
    log = logarithm(assignments.mean).unsqueeze(1)
    terms: Tensor = torch.linalg.vecdot(_spread(assignments.shares), log)
    return terms


def _spread(rows: Tensor) -> Tensor:
    return rows[:, :: -(-rows.shape[1] // SPREAD_ROWS)]


def _in_range(x: Tensor) -> Tensor:
    """Return rows without non-finite numbers, divided by their largest entry."""
    held = torch.where(x.isfinite(), x, 0.0)
    return (held / held.abs().amax(-1, keepdim=True).clamp(min=1e-37)).to(torch.float32)
