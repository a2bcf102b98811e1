"""Sums over Gaussian Gram matrices that Cauchy-Schwarz quantities are made of, block by block.

Rows are cut into runs of consecutive rows, and row sums are kept apart for each run, so that every
statistic can be had without one run: the delete-one-run jackknife.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infoplane.estimators.mutual_information.blocks import blocks
from infoplane.estimators.mutual_information.pairings import take_rows

RUNS = 16
MEDIAN_ROWS = 512


@dataclass(frozen=True, slots=True)
class PairSums:
    """Sums of two Gram matrices K, L without their diagonals; any common shape, float64.

    Attributes:
        n: Rows they are sums over.
        product: Sum of K_ij L_ij.
        rows: Sum over i of (sum_j K_ij) (sum_j L_ij).
        left: Sum of K_ij.
        right: Sum of L_ij.
    """

    n: Tensor
    product: Tensor
    rows: Tensor
    left: Tensor
    right: Tensor

    def information(self, statistic: str) -> Tensor:
        """Return CS-QMI in nats, NaN where one of the three terms is not positive.

        ln T1 + ln T2 - 2 ln T3 with T1 the mean of K_ij L_ij, T2 of K_ij L_kl, T3 of K_ij L_ik.
        ``"U"``: means over distinct indices, each unbiased. ``"V"``: over all indices.
        """
        n = self.n
        if statistic == "V":
            both = (self.product + n) / n**2
            apart = (self.left + n) * (self.right + n) / n**4
            mixed = (self.rows + self.left + self.right + n) / n**3
        else:
            both = self.product / (n * (n - 1))
            quadruples = self.left * self.right - 4 * self.rows + 2 * self.product
            apart = quadruples / (n * (n - 1) * (n - 2) * (n - 3))
            mixed = (self.rows - self.product) / (n * (n - 1) * (n - 2))
        terms = torch.stack([both, apart, mixed])
        log = torch.where(terms > 0, terms, torch.nan).log()
        return log[0] + log[1] - 2 * log[2]


@dataclass(frozen=True, slots=True)
class RunSums:
    """Row sums of K, L, KL, KK and LL inside every run, ``(t, n, RUNS)``."""

    left: Tensor
    right: Tensor
    product: Tensor
    left_square: Tensor
    right_square: Tensor

    def pair(self) -> PairSums:
        """Return the sums of K with L, ``(t, 1 + runs)``: whole, then without each run."""
        return without_runs(self.left, self.right, self.product)

    def own(self) -> tuple[PairSums, PairSums]:
        """Return the sums of K with itself and of L with itself."""
        return (
            without_runs(self.left, self.left, self.left_square),
            without_runs(self.right, self.right, self.right_square),
        )


def gram_sums(
    x: Tensor, y: Tensor, sigma_x: Tensor, sigma_y: Tensor, orders: Tensor
) -> tuple[RunSums, PairSums]:
    """Return sums of Gram matrices, for pairs as given and with ``y`` in other orders.

    Args:
        x: Shape ``(t, n, dx)``.
        y: Shape ``(t, n, dy)``.
        sigma_x: Kernel widths, ``(t,)``.
        sigma_y: The same for y.
        orders: Orders of the rows of y, ``(t, p, n)``.

    Returns:
        Sums by run, and ``(t, p)`` sums for the orders. Cost O(t n^2 (dx + (1 + p) dy)), float64.
    """
    t, p, n = orders.shape
    zeros = torch.zeros(t, n, RUNS, dtype=torch.float64, device=x.device)
    runs = RunSums(*(zeros.clone() for _ in range(5)))
    product = zeros.new_zeros(t, p)
    left, right = Kernel(x, sigma_x), Kernel(y, sigma_y)
    others = [Kernel(take_rows(y, orders[:, j : j + 1])[:, 0], sigma_y) for j in range(p)]
    for items, rows in blocks(t, n, 3, x.device):
        k, other = left.block(items, rows), right.block(items, rows)
        runs.left[items, rows] = run_sums(k)
        runs.right[items, rows] = run_sums(other)
        runs.product[items, rows] = run_sums(k * other)
        runs.left_square[items, rows] = run_sums(k * k)
        runs.right_square[items, rows] = run_sums(other * other)
        for j, kernel in enumerate(others):
            product[items, j] += (k * kernel.block(items, rows)).sum((-2, -1))
    left_rows, right_rows = runs.left.sum(-1), runs.right.sum(-1)
    partners = right_rows.unsqueeze(1).expand(-1, p, -1).gather(2, orders)
    mixed = (left_rows.unsqueeze(1) * partners).sum(-1)
    totals = [one.sum(-1, keepdim=True).expand_as(product) for one in (left_rows, right_rows)]
    return runs, PairSums(torch.full_like(product, n), product, mixed, *totals)


class Kernel:
    """Blocks of a Gaussian Gram matrix, exp(-|a - b|^2 / 2 sigma^2), with a diagonal of 0.

    -|a - b|^2 / 2 is one inner product of (a, -|a|^2 / 2, 1) and (b, 1, -|b|^2 / 2). It loses
    about 1e-16 |a|^2, hence float64, and rows are centred first.
    """

    def __init__(self, x: Tensor, sigma: Tensor) -> None:
        """Prepare rows ``x (t, n, d)`` for widths ``sigma (t,)``."""
        rows = x.to(torch.float64) / sigma.to(x.device).view(-1, 1, 1)
        rows = rows - rows.mean(1, keepdim=True)
        norms = -0.5 * rows.square().sum(-1, keepdim=True)
        ones = torch.ones_like(norms)
        self._left = torch.cat([rows, norms, ones], -1)
        self._right = torch.cat([rows, ones, norms], -1).mT.contiguous()

    def block(self, items: slice, rows: slice) -> Tensor:
        """Return some rows against all rows, ``(items, rows, n)``."""
        exponent = self._left[items, rows] @ self._right[items]
        # Rounding can leave a squared distance slightly below 0.
        kernel = exponent.clamp_(max=0.0).exp_()
        kernel.diagonal(offset=rows.start, dim1=-2, dim2=-1).zero_()
        return kernel


def run_sums(matrix: Tensor) -> Tensor:
    """Return sums over runs of consecutive columns: ``(..., n)`` to ``(..., RUNS)``."""
    n = matrix.shape[-1]
    size = n // RUNS
    whole = matrix[..., : size * RUNS]
    sums: Tensor = whole.reshape(*whole.shape[:-1], RUNS, size).sum(-1)
    if size * RUNS < n:
        # What is left over belongs to the last run.
        sums[..., -1] += matrix[..., size * RUNS :].sum(-1)
    return sums


def members(n: int, device: torch.device) -> Tensor:
    """Return which run every row is in, ``(n, RUNS)``, 1 or 0, float64."""
    run = torch.arange(n, device=device).div(n // RUNS, rounding_mode="floor").clamp(max=RUNS - 1)
    return torch.nn.functional.one_hot(run, RUNS).to(torch.float64)


def without_runs(left: Tensor, right: Tensor, product: Tensor) -> PairSums:
    """Return `PairSums` of whole row sums and of those without each run, ``(t, 1 + RUNS)``.

    Args:
        left: Row sums of K inside every run, ``(t, n, RUNS)``.
        right: The same of L.
        product: The same of K_ij L_ij.
    """
    n = left.shape[1]
    outside = 1.0 - members(n, left.device)
    # The first column is the whole: no run is left out.
    seen = torch.cat([torch.ones_like(outside[:, :1]), outside], 1)

    def kept(sums: Tensor) -> Tensor:
        whole = sums.sum(-1, keepdim=True)
        return torch.cat([whole, whole - sums], -1) * seen

    a, b = kept(left), kept(right)
    return PairSums(
        seen.sum(0).expand(left.shape[0], -1),
        kept(product).sum(1),
        (a * b).sum(1),
        a.sum(1),
        b.sum(1),
    )


def jackknife_error(values: Tensor) -> Tensor:
    """Return the standard error from ``values (t, 1 + RUNS)``: whole, then without each run."""
    held = values[:, 1:]
    centred = held - held.mean(1, keepdim=True)
    return ((RUNS - 1) / RUNS * centred.square().sum(1)).sqrt()


def median_distances(*sides: Tensor) -> Tensor:
    """Return the median distance between rows of ``(t, n, d)``, the sides taken together, ``(t,)``.

    Of at most 512 rows, evenly spread over the item.
    """
    found = []
    for rows in _spread(sides):
        held = rows.to(torch.float64)
        distance = torch.pdist(held - held.mean(0))
        found.append(distance.median())
    return torch.stack(found)


def _spread(sides: Sequence[Tensor]) -> Iterator[Tensor]:
    for i in range(sides[0].shape[0]):
        rows = torch.cat([side[i] for side in sides])
        yield rows[:: -(-rows.shape[0] // MEDIAN_ROWS)]
