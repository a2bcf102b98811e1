"""Pairwise squared distances in blocks of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

BLOCK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 27}
"""Words of 4 bytes in one distance block. On a CPU it should stay in the cache (1 MB)."""
FEWEST_ROWS = 128
"""Rows of a block even beyond that: products of fewer rows are slow."""


def blocks(t: int, n: int, width: int, device: torch.device) -> Iterator[tuple[slice, slice]]:
    """Yield (items, rows) slices that cover ``t`` items of ``n`` rows.

    One block of distances to all rows has at most the budget of the device, or `FEWEST_ROWS`
    rows, counted for ``width`` words a pair of rows: 1 for each float32 matrix, 2 for each
    float64 one.
    """
    budget = BLOCK_ELEMENTS.get(device.type, BLOCK_ELEMENTS["cuda"])
    rows = max(1, min(n, max(FEWEST_ROWS, budget // max(1, n * width))))
    items = max(1, budget // max(1, n * n * width)) if rows == n else 1
    for i in range(0, t, items):
        for j in range(0, n, rows):
            yield slice(i, min(t, i + items)), slice(j, min(n, j + rows))


class Scratch:
    """Memory that blocks use one after another.

    Fresh memory for every block would cost more page faults than the block costs arithmetic.
    """

    def __init__(self) -> None:
        """Begin without memory."""
        self._held: dict[tuple[str, torch.dtype], Tensor] = {}

    def take(self, name: str, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return memory of ``shape`` with the dtype and device of ``like``; contents are stale.

        It stays valid until the same name and dtype are taken again.
        """
        size = math.prod(shape)
        key = (name, like.dtype)
        held = self._held.get(key)
        if held is None or held.numel() < size:
            held = self._held[key] = torch.empty(size, dtype=like.dtype, device=like.device)
        return held[:size].view(tuple(shape))


class Distances:
    """Squared Euclidean distances between rows, computed block by block.

    |a - b|^2 is written as one inner product of (-2a, |a|^2, 1) and (b, 1, |b|^2), so that a
    block costs one matrix product. In float64 it loses about 1e-16 |x|^2, hence rows are
    centred first; in float32 `error` bounds the loss.
    """

    def __init__(self, x: Tensor) -> None:
        """Prepare rows ``x`` of shape ``(..., n, d)`` in float64."""
        rows = x.to(torch.float64)
        rows = rows - rows.mean(-2, keepdim=True)
        norms = rows.square().sum(-1, keepdim=True)
        ones = torch.ones_like(norms)
        self._left = torch.cat([-2.0 * rows, norms, ones], -1)
        self._right = torch.cat([rows, ones, norms], -1).mT.contiguous()
        self._lengths = norms.squeeze(-1).sqrt()

    def single(self) -> Distances:
        """Return the same distances in float32, twice as fast."""
        other = Distances.__new__(Distances)
        other._left, other._right = self._left.to(torch.float32), self._right.to(torch.float32)
        other._lengths = self._lengths.to(torch.float32)
        return other

    def block(self, items: slice, rows: slice, *, scratch: Scratch, name: str) -> Tensor:
        """Return distances of some rows to all rows, shape ``(..., b, n)``.

        A row's distance to itself is infinite.
        """
        left, right = self._left[items, ..., rows, :], self._right[items]
        shape = (*left.shape[:-1], right.shape[-1])
        distances = torch.matmul(left, right, out=scratch.take(name, shape, left))
        distances.diagonal(offset=rows.start, dim1=-2, dim2=-1).fill_(torch.inf)
        return distances

    def of_rows(self, place: tuple[int, int], rows: Tensor) -> Tensor:
        """Return distances of ``rows (b,)`` of one item and partner to all rows, ``(b, n)``."""
        distances = self._left[place][rows] @ self._right[place]
        return distances.scatter_(-1, rows.unsqueeze(-1), torch.inf)

    def error(self, items: slice, rows: slice, radius: Tensor) -> Tensor:
        """Return how far distances near ``radius (..., b)`` may be from the exact ones.

        Rounding of a product of m terms grows about as sqrt(m) eps/2 times the sum of their
        sizes, (|a| + |b|)^2; and |b| <= |a| + sqrt(radius) for rows so near. No proof but a
        rule, held on normal, clustered and heavy-tailed rows of 2 to 2048 columns.
        """
        unit = torch.finfo(self._left.dtype).eps / 2.0
        reach = 2.0 * self._lengths[items, ..., rows] + radius.clamp(min=0.0).sqrt()
        return (1.0 + math.sqrt(self._left.shape[-1])) * unit * reach.square()


def kth_smallest(values: Tensor, k: int) -> Tensor:
    """Return the k-th smallest of every row of ``values (..., n)``, contiguous; ``(...)``.

    Long rows are dealt into groups. The k smallest values lie in the k groups of smallest
    minimum, and minima are a fifth of the work of a search.
    """
    n = values.shape[-1]
    # torch searches rows of less than 64 k values in another, slower way.
    size = 1 << max(0, min(4, (n // (64 * k)).bit_length() - 1))
    if size < 4:
        return values.topk(k, dim=-1, largest=False).values[..., -1]
    count = n // size
    rows = values.view(-1, n)
    dealt = rows[:, : size * count].reshape(rows.shape[0], size, count)
    groups = dealt.amin(1).topk(k, dim=-1, largest=False, sorted=False).indices
    chosen = dealt.gather(2, groups.unsqueeze(1).expand(-1, size, -1)).flatten(1)
    if size * count < n:
        chosen = torch.cat([chosen, rows[:, size * count :]], -1)
    found: Tensor = chosen.topk(k, dim=-1, largest=False).values[:, -1]
    return found.view(values.shape[:-1])


def count_below(
    distances: Tensor, radius: Tensor, *, inclusive: bool = False, scratch: Scratch | None = None
) -> Tensor:
    """Return how many ``distances (..., b, n)`` are below ``radius (..., b)``; int64.

    Args:
        distances: Distances.
        radius: One per row.
        inclusive: Count those equal to the radius too.
        scratch: Memory to work in.
    """
    limit = radius.unsqueeze(-1)
    shape = (*radius.shape, distances.shape[-1])
    # Comparing into floats and adding them takes a fifth of the time of booleans; sums of ones
    # are exact up to 2^24 rows.
    inside = (scratch or Scratch()).take("inside", shape, distances)
    compare = torch.le if inclusive else torch.lt
    compare(distances, limit, out=inside)
    return inside.sum(-1).to(torch.int64)
