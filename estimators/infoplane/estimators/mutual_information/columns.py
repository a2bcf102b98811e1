"""KSG of two single columns by sorting, in place of all pairs.

Rows sorted by x are compared with the rows 1, 2 ... places away, all rows at once, until the
k-th neighbour found so far is nearer than the next row can be. Counts are binary searches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.blocks import Scratch, kth_smallest
from infoplane.estimators.mutual_information.pairings import row_orders
from infoplane.estimators.mutual_information.sorting import (
    count_within,
    sorted_values,
    sorted_with_order,
)
from infoplane.estimators.mutual_information.verdicts import (
    constant_items,
    estimates_of_terms,
    nonfinite_items,
)

ESTIMATOR = "ksg_scalar"
VERSION = 1
CEILING_NATS = 5.0
JITTER = 1e-10
"""Standard deviation of the noise that separates equal rows, in units of a column's own."""
TIED = 1e-9
MOST_TIED = 0.01

CHUNK_ELEMENTS = {"cpu": 1 << 16, "cuda": 1 << 24}
"""Rows taken together; on a CPU their working set should stay in the cache."""
FINE_BITS = 51
COARSE_BITS = 29
"""Largest numbers of which sums of three fit float64, and int32."""
WIDEST_COARSE = 64.0
"""Largest value, in standard deviations, for which the coarse grid is as fine as float32."""
STRIDE = 16
FEW_LEFT = 0.05
"""Share of rows without a sure neighbour for which it pays to search each on its own."""


def ksg_scalar(
    x: Tensor, y: Tensor, *, seeds: Sequence[int], k: int = 3, permutations: int = 0
) -> list[Estimate]:
    """Return I(X;Y) in nats of every column ``x`` with the scalar ``y``.

    What scikit-learn's `mutual_info_regression` computes, without setting negative values to 0:
    KSG on columns of unit deviation, noise of 1e-10 of it against equal rows. For columns of
    few distinct values use a label estimator; the noise would only pretend that they are numbers.

    Null: ``permutations`` random re-pairings. Ceiling: the smaller of 5 nats and psi(n) - psi(k);
    saturated above 0.8 of it. Band: analytic, 1.96 standard errors of the rows' terms, for
    independent rows and without bias.

    Undefined: ``"n"`` when n < k + 2, ``"nan"``, ``"constant"``.

    Args:
        x: One column per item, ``(t, n)``.
        y: Shape ``(n,)`` for all items, or ``(t, n)``.
        seeds: One per item, for noise and permutations.
        k: Neighbour that sets the ball's size.
        permutations: Draws of the null.

    Returns:
        ``t`` estimates. Cost as `column_terms`: 64 columns of 1024 rows take about 20 ms on one
        core.

    Raises:
        ValueError: If shapes or the number of seeds do not fit, or k < 1.
    """
    if x.ndim != 2 or y.shape not in (x.shape, x.shape[1:]) or len(seeds) != x.shape[0]:
        raise ValueError(
            f"x, y, seeds: expected (t, n), (n,) or (t, n), t; "
            f"got {tuple(x.shape)}, {tuple(y.shape)}, {len(seeds)}"
        )
    if k < 1:
        raise ValueError(f"k: expected 1 or more, got {k}")
    t, n = x.shape
    x, y = x.to(torch.float64), y.to(torch.float64)
    if y.ndim == 1:
        y = y.unsqueeze(0)
    terms, reasons, ceiling = [], ["n"] * t, 0.0
    if t and n >= k + 2:
        reasons = _reasons(x, y)
        a, b = _distinct(x, y, seeds)
        partners = b.unsqueeze(1)
        if permutations:
            orders = row_orders(seeds, n, permutations=permutations, device=x.device)
            orders[:, 0] = torch.arange(n, device=x.device)
            partners = partners.expand(orders.shape).gather(-1, orders)
        terms = [_graded_terms(a.unsqueeze(1).expand(partners.shape), partners, k)]
        psi = torch.digamma(torch.tensor([n, k], dtype=torch.float64))
        ceiling = min(CEILING_NATS, float(psi[0] - psi[1]))
    return estimates_of_terms(
        terms,
        n=n,
        reasons=reasons,
        ceilings=[ceiling] * t,
        estimator=ESTIMATOR,
        version=VERSION,
        parameters={"k": k},
    )


def _reasons(x: Tensor, y: Tensor) -> list[str]:
    """Return per item why it is undefined, or ``""``; ``x (t, n)``, ``y (t or 1, n)``."""
    flags = [
        flag(one.unsqueeze(-1)) for flag in (nonfinite_items, constant_items) for one in (x, y)
    ]
    columns = (held * (len(x) // len(held)) for held in flags)
    return [
        "nan" if nan_x or nan_y else "constant" if same_x or same_y else ""
        for nan_x, nan_y, same_x, same_y in zip(*columns, strict=True)
    ]


def _graded_terms(x: Tensor, y: Tensor, k: int) -> Tensor:
    """Return `column_terms` of ``(t, p, n)``.

    In float64 for items with very wide values, and for those with rows that only the noise
    tells apart.
    """
    terms = torch.empty(x.shape, dtype=torch.float64, device=x.device)
    pair = torch.stack([x[:, 0], y[:, 0]], 1)
    near = (sorted_values(pair).diff(dim=-1) < TIED).sum(-1).amax(-1)
    wide = (pair.abs().amax((1, 2)) > WIDEST_COARSE) | (near > MOST_TIED * x.shape[-1])
    for fine in (False, True):
        items = (wide == fine).nonzero().squeeze(-1)
        if items.numel():
            terms[items] = column_terms(x[items], y[items], k=k, fine=fine)
    return terms


def _distinct(x: Tensor, y: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return both columns ``(t, n)`` in unit deviation, with noise drawn on the CPU per item."""
    draws = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed % 2**63)
        draws.append(torch.randn(x.shape[1], 2, generator=generator, dtype=torch.float64))
    noise = torch.stack(draws).to(x.device)
    return (
        torch.add(_scaled(x), noise[..., 0], alpha=JITTER),
        torch.add(_scaled(y), noise[..., 1], alpha=JITTER),
    )


def _scaled(rows: Tensor) -> Tensor:
    """Return columns ``(t, n)`` with mean 0 and deviation 1."""
    rows = torch.where(rows.isfinite(), rows, 0.0)
    largest = rows.abs().amax(1, keepdim=True)
    # Division by the largest first: squares of large values overflow.
    rows /= torch.where(largest > 0, largest, 1.0)
    rows -= rows.mean(1, keepdim=True)
    spread = rows.std(1, keepdim=True)
    rows /= torch.where(spread > 0, spread, 1.0)
    return rows


def column_terms(x: Tensor, y: Tensor, *, k: int, fine: bool = True) -> Tensor:
    """Return every row's term of the KSG mean of two columns.

    Args:
        x: Shape ``(..., n)``, finite.
        y: Shape ``(..., n)``.
        k: Neighbour that sets the ball's size, less than n.
        fine: Compare in float64, else in 30 bits of the wider column's range, in two thirds of
            the time.

    Returns:
        Shape ``(..., n)``, float64. Cost about O(n^1.5) a column for independent columns, less
        for dependent ones, at most O(n^2).
    """
    n = x.shape[-1]
    flat_x, flat_y = x.reshape(-1, n), y.reshape(-1, n)
    terms = torch.empty(flat_x.shape, dtype=torch.float64, device=x.device)
    budget = CHUNK_ELEMENTS.get(x.device.type, CHUNK_ELEMENTS["cuda"])
    step = max(1, budget // n)
    scratch = Scratch()
    table = torch.digamma(torch.arange(1, n + 1, dtype=torch.float64, device=x.device))
    for start in range(0, flat_x.shape[0], step):
        items = slice(start, start + step)
        a, b, ordered, order = _sorted_pair(*_on_grid(flat_x[items], flat_y[items], fine))
        radius = _neighbour_distance(a, b, k, scratch)
        inside = table[count_within(a, a, radius)] + table[count_within(ordered, b, radius)]
        terms[items].scatter_(-1, order, table[k - 1] + table[n - 1] - inside)
    return terms.reshape(x.shape)


def _on_grid(x: Tensor, y: Tensor, fine: bool) -> tuple[Tensor, Tensor]:
    """Return both columns as whole numbers of one unit, in float64 or in int32.

    Then differences and sums are exact, and a search for x + r finds just the rows that a
    comparison of distances would. The fine grid is about that of the widest values' rounding.
    """
    pair = torch.stack([x, y]).to(torch.float64)
    low, high = pair.amin(-1, keepdim=True), pair.amax(-1, keepdim=True)
    half = (high / 2 - low / 2).amax(0)
    middle = low / 2 + high / 2
    steps = 2.0 ** (FINE_BITS if fine else COARSE_BITS)
    grid = ((pair - middle) / torch.where(half > 0, half, 1.0) * steps).round_()
    if not fine:
        grid = grid.to(torch.int32)
    return grid[0], grid[1]


def _sorted_pair(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return one column sorted, the other beside it, the other sorted, and the rows' order.

    KSG is symmetric. The column with fewer equal rows leads: rows equal in it are no places
    apart, and the search would be long.
    """
    (x_sorted, x_order), (y_sorted, y_order) = sorted_with_order(x), sorted_with_order(y)
    ties = [(one.diff(dim=-1) == 0).sum(-1, keepdim=True) for one in (x_sorted, y_sorted)]
    swap = ties[0] > ties[1]
    order = torch.where(swap, y_order, x_order)
    beside = torch.where(swap, x, y).gather(-1, order)
    lead, other = torch.where(swap, y_sorted, x_sorted), torch.where(swap, x_sorted, y_sorted)
    return lead, beside, other, order


def _neighbour_distance(x: Tensor, y: Tensor, k: int, scratch: Scratch) -> Tensor:
    """Return the largest-coordinate distance to the k-th neighbour, rows sorted by x."""
    n = x.shape[-1]
    nearest = scratch.take("nearest", (k, *x.shape), x).fill_(_farthest(x.dtype))
    reach, left = 0, x.numel()
    while left > FEW_LEFT * x.numel() and reach < n - 1:
        last = min(n - 1, reach + STRIDE)
        for step in range(reach + 1, last + 1):
            _compare(x, y, step, nearest, scratch)
        reach = last
        unsettled = _unsettled(x, nearest[k - 1], reach)
        left = int(unsettled.sum())
    radius = nearest[k - 1].clone()
    while left:
        reach = min(n - 1, 2 * reach)
        _search_wider(x, y, radius, unsettled.nonzero(), reach, k)
        unsettled &= _unsettled(x, radius, reach)
        left = int(unsettled.sum())
    return radius


def _compare(x: Tensor, y: Tensor, step: int, nearest: Tensor, scratch: Scratch) -> None:
    """Let every row and the one ``step`` places on join each other's k ``nearest``."""
    shape = (x.shape[0], x.shape[1] - step)
    gap, other = scratch.take("gap", shape, x), scratch.take("other", shape, x)
    torch.sub(x[:, step:], x[:, :-step], out=gap)
    torch.sub(y[:, step:], y[:, :-step], out=other)
    torch.maximum(gap, other.abs_(), out=gap)
    for held in (nearest[:, :, :-step].unbind(), nearest[:, :, step:].unbind()):
        for closer, farther in zip(held[-2::-1], held[:0:-1], strict=True):
            torch.maximum(closer, gap, out=other)
            torch.minimum(farther, other, out=farther)
        torch.minimum(held[0], gap, out=held[0])


def _unsettled(x: Tensor, radius: Tensor, reach: int) -> Tensor:
    """Return for which rows a row more than ``reach`` places away may still be nearer."""
    open_ = torch.zeros_like(radius, dtype=torch.bool)
    if reach >= x.shape[-1] - 1:
        return open_
    gap = x[:, reach + 1 :] - x[:, : -reach - 1]
    open_[:, : -reach - 1] = gap < radius[:, : -reach - 1]
    open_[:, reach + 1 :] |= gap < radius[:, reach + 1 :]
    return open_


def _search_wider(x: Tensor, y: Tensor, radius: Tensor, left: Tensor, reach: int, k: int) -> None:
    """Find the k-th neighbour of the rows ``left (m, 2)`` within ``reach`` places each way."""
    n = x.shape[-1]
    width = min(n, 2 * reach + 1)
    windows = x.unfold(-1, width, 1), y.unfold(-1, width, 1)
    budget = CHUNK_ELEMENTS.get(x.device.type, CHUNK_ELEMENTS["cuda"])
    step = max(1, budget // width)
    for start in range(0, left.shape[0], step):
        item, place = left[start : start + step].unbind(-1)
        first = (place - reach).clamp(0, n - width)
        gap = windows[0][item, first].sub_(x[item, place].unsqueeze(-1)).abs_()
        other = windows[1][item, first].sub_(y[item, place].unsqueeze(-1)).abs_()
        torch.maximum(gap, other, out=gap)
        gap.scatter_(-1, (place - first).unsqueeze(-1), _farthest(x.dtype))
        radius[item, place] = kth_smallest(gap, k)


def _farthest(dtype: torch.dtype) -> float:
    """Return more than any distance on the grid."""
    return math.inf if dtype.is_floating_point else torch.iinfo(dtype).max
