"""Nearest-neighbour information at several k from one pass over the distances."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

SAME = 1e-9
"""Squared distance up to which two rows count as one; rows have about unit variance."""
BLOCK_ELEMENTS = 1 << 18
"""Elements of one block of distances, 2 MB: a block should stay in the cache."""


def ksg_many(pairs: Sequence[tuple[Tensor, Tensor]], *, ks: Sequence[int]) -> Tensor:
    """Return Kraskov's estimate of I(X;Y) in nats for every pair and k; rows may repeat.

    Where the k-th neighbour is at distance zero, the rows at that point take the place of k
    (Gao et al., "Estimating mutual information for discrete-continuous mixtures", 2017), so
    that repeated rows need no jitter.

    Args:
        pairs: ``x (t, n, dx)`` and ``y (t, n, dy)``, columns of about unit variance; all of
            equal t and n.
        ks: Increasing, below n.

    Returns:
        Shape ``(t, len(pairs) len(ks))``, float64. Cost O(t n^2 (dx + dy + len(ks))) per pair.
    """
    t, n, _ = pairs[0][0].shape
    step = max(1, min(t, BLOCK_ELEMENTS // (n * n)))
    # Fresh memory for every block would cost more page faults than the block costs arithmetic.
    memory = torch.empty(3, step, n, n, dtype=torch.float64, device=pairs[0][0].device)
    columns = []
    for x, y in pairs:
        x, y = _scaled(x), _scaled(y)
        parts = [_block(x[i : i + step], y[i : i + step], ks, memory) for i in range(0, t, step)]
        columns.append(torch.cat(parts))
    return torch.cat(columns, -1)


def _scaled(x: Tensor) -> Tensor:
    """Return centred rows whose distances do not grow with their width."""
    return (x - x.mean(1, keepdim=True)) / math.sqrt(x.shape[-1])


def _block(x: Tensor, y: Tensor, ks: Sequence[int], memory: Tensor) -> Tensor:
    t, n, _ = x.shape
    dx, dy, joint = memory[:, :t]
    table = torch.digamma(torch.arange(1, n + 1, dtype=torch.float64, device=x.device))
    _distances(x, dx)
    _distances(y, dy)
    nearest = _smallest(torch.maximum(dx, dy, out=joint), ks[-1])
    means = []
    for k in ks:
        radius = nearest[..., k - 1]
        repeated = radius <= SAME
        limit = torch.where(repeated, 2.0 * SAME, radius).unsqueeze(-1)
        nx, ny = _count(dx, limit, joint), _count(dy, limit, joint)
        inside = torch.full_like(nx, k)
        if bool(repeated.any()):
            both = torch.maximum(dx, dy)
            inside = torch.where(repeated, _count(both, limit, joint), inside)
        means.append((table[inside - 1] - table[nx] - table[ny]).mean(-1))
    return torch.stack(means, -1) + table[n - 1]


def _distances(rows: Tensor, out: Tensor) -> None:
    """Write squared distances to ``out (t, n, n)``; a row's own is infinite."""
    norms = rows.square().sum(-1)
    torch.add(norms.unsqueeze(-1), norms.unsqueeze(-2), out=out)
    out.baddbmm_(rows, rows.mT, alpha=-2.0)
    out.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)


def _smallest(distances: Tensor, count: int) -> Tensor:
    """Return the ``count`` smallest of every row in order, ``(t, n, count)``; reorders rows."""
    if distances.device.type == "cpu":
        # numpy's selection takes a fifth of the time of torch's, which carries indices along.
        values = distances.numpy()
        values.partition(count - 1, axis=-1)
        return torch.from_numpy(np.sort(values[..., :count], axis=-1))
    return distances.topk(count, dim=-1, largest=False).values


def _count(distances: Tensor, limit: Tensor, memory: Tensor) -> Tensor:
    """Return how many distances of each row are below its limit, 0 to n - 1."""
    # Floats are added several times faster than booleans.
    return torch.lt(distances, limit, out=memory).sum(-1).to(torch.int64)
