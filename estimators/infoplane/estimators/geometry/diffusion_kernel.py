"""Gaussian kernels of rows, their diffusion operators, and the entropy of a spectrum.

The operator of a random walk on the rows: G_ij = exp(-|x_i - x_j|^2 / 2 s^2) with bandwidth s,
divided by its row sums, written as the symmetric matrix with the same eigenvalues.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from infoplane.estimators.mutual_information.blocks import blocks
from infoplane.estimators.mutual_information.verdicts import constant_items

Kernel = Literal["walk", "anisotropic"]

MEDIAN_ROWS = 512
"""Rows whose pairs the median is taken over; the median of 130,816 pairs strays about 1 %."""

SMALLEST_DISTANCE = 1e-6
"""Median distances below this share of the rows' radius are rounding, and count as 0."""


def median_distance(x: Tensor) -> Tensor:
    """Return the median pairwise Euclidean distance of every item.

    Use it on one reference window, and pass the result as ``bandwidths`` for all later ones: a
    bandwidth taken from every window anew hides changes of scale.

    Over all pairs up to 512 rows, and of 512 evenly spaced rows above. The lower median when the
    number of pairs is even.

    Args:
        x: Shape ``(t, n, d)``.

    Returns:
        Shape ``(t,)``, float64; 0 when half of the pairs coincide, NaN below 2 rows and for
        items with numbers that are not finite. Cost O(t min(n, 512)^2 d).

    Raises:
        ValueError: If ``x`` is not of three axes.
    """
    if x.ndim != 3:
        raise ValueError(f"x: expected (t, n, d), got {tuple(x.shape)}")
    t, n, _ = x.shape
    medians = torch.full((t,), torch.nan, dtype=torch.float64, device=x.device)
    if n < 2:
        return medians
    count = min(n, MEDIAN_ROWS)
    rows = x[:, torch.arange(count, device=x.device) * n // count].to(torch.float64)
    rows -= rows.mean(1, keepdim=True)
    left, right = _distance_factors(rows)
    radius = rows.square().sum(-1).mean(-1).sqrt()
    i, j = torch.triu_indices(count, count, 1, device=x.device)
    for items, part in blocks(t, count, 1, x.device):
        # 512 rows fit one block on every device, so that `part` is always all of them.
        squared = left[items, part] @ right[items]
        medians[items] = squared[:, i, j].median(-1).values.clamp(min=0.0).sqrt()
    medians[medians <= SMALLEST_DISTANCE * radius] = 0.0
    flat = torch.tensor(constant_items(x), dtype=torch.bool, device=x.device)
    medians[flat] = 0.0
    medians[~finite_items(x)] = torch.nan
    return medians


def finite_items(x: Tensor) -> Tensor:
    """Return which items of ``x (t, n, d)`` have a finite sum of squares, shape ``(t,)``."""
    return x.to(torch.float64).square().sum((-2, -1)).isfinite()


def bandwidths_of(x: Tensor, bandwidths: Sequence[float] | None) -> tuple[Tensor, Tensor]:
    """Return the bandwidth and the median distance of every item, ``(t,)`` each, float64.

    A bandwidth that is not given is the item's own median. NaN where it cannot be used: not
    above 0, not finite, or so small that distances in its unit overflow.
    """
    median = median_distance(x)
    if bandwidths is None:
        return torch.where(median > 0, median, torch.nan), median
    given = torch.tensor(list(bandwidths), dtype=torch.float64, device=x.device)
    extent = x.to(torch.float64).square().sum((-2, -1)).sqrt()
    usable = (given > 0) & given.isfinite() & (extent < 1e150 * given)
    return torch.where(usable, given, torch.nan), median


def gram(x: Tensor, bandwidths: Tensor, dtype: torch.dtype) -> Tensor:
    """Return exp(-|x_i - x_j|^2 / 2 s^2), shape ``(t, n, n)``.

    Distances are float64 whatever ``dtype`` is; the diagonal is exactly 1.

    Args:
        x: Shape ``(t, n, d)``, finite.
        bandwidths: Shape ``(t,)``, above zero.
        dtype: Of the result.
    """
    t, n, _ = x.shape
    kernel = torch.empty((t, n, n), dtype=dtype, device=x.device)
    # Divided before the product, so that a block needs no scaling of its own.
    scaled = x.to(torch.float64) / bandwidths[:, None, None]
    left, right = _distance_factors(scaled - scaled.mean(1, keepdim=True))
    left *= -0.5
    for items, rows in blocks(t, n, 1, x.device):
        place = kernel[items, rows]
        if dtype == torch.float64:
            # In place: fresh memory for every block costs as much as the product.
            torch.matmul(left[items, rows], right[items], out=place)
            place.clamp_(max=0.0).exp_()
        else:
            place.copy_((left[items, rows] @ right[items]).clamp_(max=0.0)).exp_()
    kernel.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    return kernel


def _distance_factors(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return factors ``(t, n, d + 2)`` and ``(t, d + 2, n)`` of the squared distances.

    |a - b|^2 is the inner product of (-2a, |a|^2, 1) and (b, 1, |b|^2), so that a block of
    distances is one matrix product. It loses about 1e-16 |a|^2, hence rows should be centred.
    Norms are shortened by the most that rounding can add, so that equal rows are never apart:
    their distance comes out at or below 0.
    """
    rounding = 4.0 * torch.finfo(rows.dtype).eps * math.sqrt(rows.shape[-1] + 2.0)
    norms = rows.square().sum(-1, keepdim=True) * (1.0 - rounding)
    ones = torch.ones_like(norms)
    left = torch.cat([-2.0 * rows, norms, ones], -1)
    return left, torch.cat([rows, ones, norms], -1).mT.contiguous()


def normalise(kernel: Tensor, form: Kernel) -> Tensor:
    """Turn Gram matrices ``(..., n, n)`` into diffusion operators, in place.

    ``"walk"``: D^-1/2 G D^-1/2, D the row sums. ``"anisotropic"``: the same of
    D^-1/2 G D^-1/2 in place of G, which takes half of the rows' density out. Rows of zeros stay
    zero and add only eigenvalues of 0.
    """
    for _ in range(2 if form == "anisotropic" else 1):
        degree = kernel.sum(-1, dtype=torch.float64)
        scale = torch.where(degree > 0, degree.clamp(min=1e-300).rsqrt(), 0.0).to(kernel.dtype)
        kernel.mul_(scale.unsqueeze(-1)).mul_(scale.unsqueeze(-2))
    return kernel


def spectral_entropy(operator: Tensor, power: float) -> Tensor:
    """Return -sum a log2 a, a = |eigenvalue|^power over their sum, in bits.

    Args:
        operator: Shape ``(..., n, n)``, symmetric, float64.
        power: Above 0.

    Returns:
        Shape ``(...)``. Cost of all eigenvalues, 4/3 n^3 operations each.
    """
    if operator.device.type == "cpu":
        # OpenBLAS against torch's LAPACK, n = 512 and 1024: 8.5 and 52 ms against 11 and 75.
        eigenvalues = torch.from_numpy(np.linalg.eigvalsh(operator.numpy()))
    else:
        eigenvalues = torch.linalg.eigvalsh(operator)
    weight = eigenvalues.abs().pow(power)
    share = weight / weight.sum(-1, keepdim=True)
    bits: Tensor = -torch.xlogy(share, share).sum(-1) / math.log(2.0)
    return bits.clamp(min=0.0)
