"""Differential entropy from distances to near neighbours, for few dimensions.

Weighted Kozachenko-Leonenko: Berrett, Samworth, Yuan, "Efficient multivariate entropy estimation
via k-nearest neighbour distances" (2019), as used by Butakov et al., "Information Bottleneck
Analysis of Deep Neural Networks via Lossy Compression" (ICLR 2024), section on estimation.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.blocks import Distances, Scratch, blocks
from infoplane.estimators.mutual_information.verdicts import (
    constant_items,
    nonfinite_items,
    standard_errors,
)

ESTIMATOR = "weighted_kl_entropy"
VERSION = 1
WIDEST = 6
LARGEST_WEIGHTS = 10.0
"""Sum of absolute weights above which their differences only amplify noise."""
JITTER = 1e-10
TIED = 1e-9
"""Rows nearer than this, in standard deviations, repeat each other."""
MOST_TIED = 0.1
SMALLEST_PIVOT = 1e-7
SPARE = 2


@dataclass(frozen=True, slots=True)
class EntropyTerms:
    """Every row's term of the mean that is the entropy.

    Attributes:
        rows: Shape ``(g, m)``, nats, NaN for padding and for rows that repeat another.
        reasons: Per group why it is undefined, or ``""``.
    """

    rows: Tensor
    reasons: list[str]


def weighted_kl_entropy(x: Tensor, *, seeds: Sequence[int], k: int = 5) -> list[Estimate]:
    """Return the differential entropy in nats of the rows of every item.

    h = mean_i sum_j w_j [d ln r_ij + ln V_d + ln(n - 1) - psi(j)], r_ij the distance of row i to
    its j-th neighbour, V_d the volume of the unit ball. Rows are whitened, and half the
    log-determinant is added back. Up to 4 dimensions only the nearest neighbour counts; above,
    the weights cancel the leading bias. The value moves with the unit of x: scaling by a adds
    d ln a.

    Equal rows have no density. Noise of 1e-10 standard deviations separates them, rows nearer
    than 1e-9 are left out, and an item with more than a tenth of such rows is undefined: on
    quantised data the method has no meaning.

    Null: none. Ceiling: none. Band: analytic, 1.96 standard errors of the rows' terms; for
    independent rows, without bias.

    Undefined: ``"d"`` above 6 dimensions or for none, ``"weights"`` when k neighbours admit no
    weights with sum |w| <= 10, ``"n"`` below k + 2 or d + 2 rows, ``"nan"``, ``"constant"`` when no column
    varies, ``"singular"`` for linearly dependent columns, ``"duplicates"``.

    Args:
        x: Shape ``(t, n, d)``.
        seeds: One per item, for the jitter.
        k: Largest neighbour in use.

    Returns:
        ``t`` estimates. Cost O(t n^2 d), float64.

    Raises:
        ValueError: If the shape or the number of seeds do not fit, or k < 1.
    """
    if x.ndim != 3 or len(seeds) != x.shape[0]:
        raise ValueError(
            f"x, seeds: expected (t, n, d) and t, got {tuple(x.shape)} and {len(seeds)}"
        )
    if k < 1:
        raise ValueError(f"k: expected 1 or more, got {k}")
    t, n, d = x.shape
    reason = width_reason(d, k) or ("n" if n < smallest_sample(d, k) else "")
    if reason or t == 0:
        return [_missing(reason, n, d, k) for _ in range(t)]
    scaled, unit = unit_scale(x)
    held = torch.full((t,), n, device=x.device)
    terms = entropy_terms(jittered(scaled, seeds), held, k=k)
    logs = unit.clamp(min=1e-300).log().sum(-1)
    values = (terms.rows.nanmean(-1) + logs).tolist()
    errors = standard_errors(terms.rows).tolist()
    flags = zip(nonfinite_items(x), constant_items(x), terms.reasons, strict=True)
    reasons = ["nan" if nan else "constant" if flat else found for nan, flat, found in flags]
    return [
        _missing(reasons[i], n, d, k)
        if reasons[i]
        else Estimate(
            value=values[i],
            unit="nats",
            n=n,
            estimator=ESTIMATOR,
            version=VERSION,
            band=(values[i] - 1.96 * errors[i], values[i] + 1.96 * errors[i]),
            parameters={"d": d, "k": k},
        )
        for i in range(t)
    ]


@functools.lru_cache(maxsize=64)
def neighbour_weights(d: int, k: int) -> tuple[float, ...]:
    """Return the weights of neighbours 1 to k in d dimensions; empty when none exist.

    They sum to 1, and sum_j w_j Gamma(j + 2l/d) / Gamma(j) = 0 for l = 1 .. floor(d / 4). Only
    neighbours near multiples of k/d may weigh, and of all such weights these have the least
    square sum. Trailing zeros are cut off.
    """
    if d <= 4:
        return (1.0,)
    support = sorted({i * k // d for i in range(1, d + 1)} - {0})
    j = np.array(support, dtype=np.float64)
    rows = [np.ones_like(j)]
    for step in range(1, d // 4 + 1):
        rows.append(np.array([math.exp(math.lgamma(i + 2 * step / d) - math.lgamma(i)) for i in j]))
    matrix = np.stack([row / np.abs(row).max() for row in rows])
    target = np.zeros(len(rows))
    target[0] = 1.0
    found = np.linalg.lstsq(matrix, target, rcond=None)[0]
    # A least-squares solution of too few unknowns drops constraints without a word.
    if np.abs(matrix @ found - target).max() > 1e-9:
        return ()
    weights = np.zeros(support[-1])
    weights[np.array(support) - 1] = found
    return tuple(weights.tolist())


def width_reason(d: int, k: int) -> str:
    """Return why no entropy of d dimensions exists with k neighbours, or ``""``."""
    if not 1 <= d <= WIDEST:
        return "d"
    weights = neighbour_weights(d, k)
    return "" if weights and sum(map(abs, weights)) <= LARGEST_WEIGHTS else "weights"


def smallest_sample(d: int, k: int) -> int:
    """Return the fewest rows for which a covariance and k neighbours exist."""
    return max(d, len(neighbour_weights(d, k))) + 2


def unit_scale(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return finite, centred columns of unit deviation, float64, and the deviations ``(t, d)``.

    Columns that do not vary stay 0, with deviation 0.
    """
    rows = torch.where(x.isfinite(), x, 0.0).to(torch.float64)
    varies = (rows != rows[:, :1]).any(1)
    largest = rows.abs().amax(1).clamp(min=1e-300)
    rows = rows / largest.unsqueeze(1)
    rows = (rows - rows.mean(1, keepdim=True)) * varies.unsqueeze(1)
    spread = rows.square().mean(1).sqrt()
    return rows / torch.where(spread > 0, spread, 1.0).unsqueeze(1), largest * spread


def jittered(x: Tensor, seeds: Sequence[int]) -> Tensor:
    """Return rows of unit scale with noise of `JITTER`, drawn on the CPU for every item."""
    draws = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed % 2**63)
        draws.append(torch.randn(x.shape[1:], generator=generator, dtype=torch.float64))
    return x + JITTER * torch.stack(draws).to(x.device) if draws else x


def entropy_terms(x: Tensor, held: Tensor, *, k: int) -> EntropyTerms:
    """Return every row's term of the entropy of ``g`` groups of rows.

    Args:
        x: Shape ``(g, m, d)``, float64, jittered, of about unit scale, d of 1 to 6.
        held: Rows of each group, ``(g,)``, at least `smallest_sample`; the rest is padding.
        k: Largest neighbour in use.
    """
    m, d = x.shape[1:]
    weights = torch.tensor(neighbour_weights(d, k), dtype=torch.float64, device=x.device)
    present = torch.arange(m, device=x.device) < held.unsqueeze(-1)
    white, volume, singular = _whitened(x, present, held)
    squares, plain = _neighbour_squares(x, white, present, len(weights))
    tied = plain < TIED**2
    index = torch.arange(1, len(weights) + 1, dtype=torch.float64, device=x.device)
    constant = (held - 1).to(torch.float64).log().unsqueeze(-1) - torch.digamma(index)
    log = squares.clamp(min=1e-300).log().mul(0.5 * d)
    rows = ((log + constant.unsqueeze(1)) * weights).sum(-1)
    rows = rows + _log_unit_ball(d) + volume.unsqueeze(-1)
    share = (tied & present).sum(-1) / held
    reasons = [
        "singular" if bad else "duplicates" if part > MOST_TIED else ""
        for bad, part in zip(singular.tolist(), share.tolist(), strict=True)
    ]
    return EntropyTerms(torch.where(present & ~tied, rows, torch.nan), reasons)


def _log_unit_ball(d: int) -> float:
    return 0.5 * d * math.log(math.pi) - math.lgamma(0.5 * d + 1)


def _whitened(x: Tensor, present: Tensor, held: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return white rows (padding 0), half the log-determinant, and what is singular."""
    mask = present.unsqueeze(-1)
    count = held.to(torch.float64)[:, None, None]
    rows = (x - (x * mask).sum(1, keepdim=True) / count) * mask
    spread = (rows.square().sum(1, keepdim=True) / (count - 1)).sqrt()
    # Below the jitter's own size nothing varies.
    flat = spread <= 10 * JITTER
    rows = rows / torch.where(flat, 1.0, spread)
    root, info = torch.linalg.cholesky_ex(rows.mT @ rows / (count - 1))
    pivots = root.diagonal(dim1=-2, dim2=-1)
    singular = (info > 0) | ~(pivots.amin(-1) > SMALLEST_PIVOT) | flat.any(-1).squeeze(-1)
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)
    root = torch.where(singular[:, None, None], eye, root)
    white = torch.linalg.solve_triangular(root, rows.mT, upper=False).mT
    logs = torch.where(flat, 1.0, spread).log().sum((-2, -1))
    return white, logs + root.diagonal(dim1=-2, dim2=-1).log().sum(-1), singular


def _neighbour_squares(x: Tensor, white: Tensor, present: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return squared white distances of the k nearest, ``(g, m, k)``, and the least plain one."""
    g, m, _ = x.shape
    wanted = min(k + SPARE, m - 1)
    squares = x.new_zeros(g, m, k)
    plain = x.new_zeros(g, m)
    distances, scratch = Distances(white), Scratch()
    absent = ~present.unsqueeze(1)
    for items, rows in blocks(g, m, 2, x.device):
        block = distances.block(items, rows, scratch=scratch, name="white")
        block.masked_fill_(absent[items], torch.inf)
        index = block.topk(wanted, dim=-1, largest=False).indices
        # The product form loses the digits of near rows; the few nearest are measured again.
        near = _direct(white[items], rows, index)
        # Rows of padding may be among the spare ones.
        near = torch.where(
            present[items].unsqueeze(1).expand(-1, index.shape[1], -1).gather(-1, index),
            near,
            torch.inf,
        )
        squares[items, rows] = near.sort(-1).values[..., :k]
        plain[items, rows] = _direct(x[items], rows, index).amin(-1)
    return squares, plain


def _direct(x: Tensor, rows: slice, index: Tensor) -> Tensor:
    """Return squared distances of ``rows`` to the rows ``index (g, b, k)``."""
    g, b, k = index.shape
    flat = index.reshape(g, b * k, 1).expand(-1, -1, x.shape[-1])
    others = x.gather(1, flat).reshape(g, b, k, x.shape[-1])
    return (others - x[:, rows].unsqueeze(2)).square().sum(-1)


def _missing(reason: str, n: int, d: int, k: int) -> Estimate:
    return Estimate.missing(
        reason,
        unit="nats",
        n=n,
        estimator=ESTIMATOR,
        version=VERSION,
        parameters={"d": d, "k": k},
    )
