"""Sums of a Gaussian kernel over the rows of a class, for all classes of a batch at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infoplane.estimators.mutual_information.blocks import blocks
from infoplane.estimators.mutual_information.labels import dense_labels
from infoplane.estimators.mutual_information.pairings import row_orders

ITEM_ELEMENTS = {"cpu": 1 << 22, "cuda": 1 << 27}
"""Elements of rows that are worked on together (32 MB and 1 GB)."""


@dataclass(frozen=True, slots=True)
class ClassGroups:
    """Classes of about one size, their rows side by side.

    Attributes:
        places: Of each row in the flattened labels, shape ``(g, m)``; padded with the last one.
        held: Which are not padding, shape ``(g, m)``.
    """

    places: Tensor
    held: Tensor


def class_groups(labels: Tensor) -> list[ClassGroups]:
    """Return the classes of two or more rows of ``labels (t, p, n)``, grouped by size.

    Sizes of a group differ by less than a factor of two, which bounds what padding costs.

    Args:
        labels: Numbers of 0 .. n - 1, apart for each of the t x p tables.
    """
    t, p, n = labels.shape
    tables = torch.arange(t * p, device=labels.device).view(t, p, 1)
    keys, order = (tables * n + labels).flatten().sort(stable=True)
    sizes = torch.unique_consecutive(keys, return_counts=True)[1]
    starts = sizes.cumsum(0) - sizes
    octaves = [(int(size) - 1).bit_length() for size in sizes.tolist()]
    grades = torch.tensor(octaves, device=labels.device)
    found = []
    for octave in sorted(set(octaves) - {0}):
        first, size = starts[grades == octave], sizes[grades == octave]
        place = torch.arange(int(size.max()), device=labels.device).expand(size.numel(), -1)
        held = place < size.unsqueeze(-1)
        place = first.unsqueeze(-1) + torch.minimum(place, size.unsqueeze(-1) - 1)
        found.append(ClassGroups(order[place], held))
    return found


def label_orders(labels: Tensor, seeds: Sequence[int], permutations: int) -> Tensor:
    """Return labels of every item and permutations of them, renumbered, ``(t, 1 + p, n)``."""
    dense, _ = dense_labels(labels.cpu())
    orders = row_orders(
        seeds, labels.shape[1], permutations=permutations, device=torch.device("cpu")
    )
    orders[:, 0] = torch.arange(labels.shape[1])
    return dense.unsqueeze(1).expand_as(orders).gather(2, orders)


def item_runs(x: Tensor) -> Iterator[slice]:
    """Yield runs of items of ``x (t, n, d)`` that are small enough to be copied a few times."""
    t, n, d = x.shape
    budget = ITEM_ELEMENTS.get(x.device.type, ITEM_ELEMENTS["cuda"])
    step = max(1, budget // max(1, n * d))
    for start in range(0, t, step):
        yield slice(start, min(t, start + step))


def kernel_terms(
    x: Tensor,
    groups: list[ClassGroups],
    shape: tuple[int, int, int],
    *,
    noise: Tensor | None,
    reduce: Callable[[Tensor], Tensor],
    parts: int,
) -> Tensor:
    """Return what every row's kernel with the rows of its class comes to.

    With z = x_i + e and a_ij = ln N(z; x_j, 1) - ln N(z; x_i, 1), computed as one matrix product:

        a_ij = z . x_j - |x_j|^2 / 2 - (z . x_i - |x_i|^2 / 2),   a_ii = 0.

    No maximum is taken out before exponentials: a_ii = 0 keeps sums above 1, and as
    a_ij = -r^2 / 2 + r g with a standard normal g, none passes some tens.

    Args:
        x: Shape ``(t, n, d)``, float64, in units of the kernel's width.
        groups: Of labels of the shape ``shape``.
        shape: ``(t, p, n)``.
        noise: e, as x; None for none.
        reduce: From ``a (g, b, m)``, which it may overwrite, to ``(parts, g, b)``. Padding is
            minus infinity.
        parts: Numbers per row.

    Returns:
        Shape ``(parts, t, p, n)``; 0 for rows that are alone. Cost O(sum of squared class sizes x d).
    """
    t, p, n = shape
    d = x.shape[-1]
    flat = x.reshape(t * n, d)
    points = flat if noise is None else flat + noise.reshape(t * n, d)
    halves = 0.5 * flat.square().sum(-1)
    own = (points * flat).sum(-1) - halves
    found = torch.zeros(parts, t * p * n, dtype=x.dtype, device=x.device)
    for group in groups:
        rows = group.places // (p * n) * n + group.places % n
        count, size = group.places.shape
        for items, part in blocks(count, size, 2, x.device):
            near = flat[rows[items]]
            weight = halves[rows[items]].masked_fill(~group.held[items], math.inf)
            inner = rows[items, part]
            a = points[inner] @ near.mT
            a -= weight.unsqueeze(-2)
            a -= own[inner].unsqueeze(-1)
            a.diagonal(offset=part.start, dim1=-2, dim2=-1).zero_()
            held = group.held[items, part]
            found[:, group.places[items, part][held]] = reduce(a)[:, held]
    return found.view(parts, t, p, n)


def class_sizes(labels: Tensor) -> Tensor:
    """Return how many rows of its table share each row's label, ``labels (t, p, n)``, int64."""
    t, p, n = labels.shape
    counts = torch.zeros(t, p, n, dtype=torch.int64, device=labels.device)
    counts.scatter_add_(-1, labels, torch.ones_like(labels))
    return counts.gather(-1, labels)
