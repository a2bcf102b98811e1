"""Pairwise squared distances in blocks of bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from infoplane.estimators.mutual_information.row_products import row_products

BLOCK_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 27}
"""Words of 4 bytes in one distance block. On a CPU it should stay in the cache (1 MB)."""
FEWEST_ROWS = 128
"""Rows of a block even beyond that: products of fewer rows are slow."""
FEWEST_GROUPS = 64
"""Groups that a long row is searched in on a CPU: minima of fewer at a time are slow."""


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
        self._rows = rows - _centre(rows)
        self._norms = self._rows.square().sum(-1, keepdim=True)
        self._held: tuple[Tensor, Tensor] | None = None

    def single(self) -> Distances:
        """Return the same distances in float32, two to four times as fast."""
        other = Distances.__new__(Distances)
        other._rows, other._norms = self._rows.to(torch.float32), self._norms.to(torch.float32)
        other._held = None
        return other

    def _sides(self) -> tuple[Tensor, Tensor]:
        """Return both factors, ``(..., n, d + 2)``; built when first asked for."""
        if self._held is None:
            *shape, d = self._rows.shape
            left = self._rows.new_ones((*shape, d + 2))
            right = torch.ones_like(left)
            torch.mul(self._rows, -2.0, out=left[..., :d])
            right[..., :d] = self._rows
            left[..., d : d + 1] = right[..., d + 1 :] = self._norms
            self._held = left, right
        return self._held

    def block(self, items: slice, rows: slice, *, scratch: Scratch, name: str) -> Tensor:
        """Return distances of some rows to all rows, shape ``(..., b, n)``.

        A row's distance to itself is infinite.
        """
        left, right = self._sides()
        left, right = left[items, ..., rows, :], right[items]
        shape = (*left.shape[:-1], right.shape[-2])
        distances = row_products(left, right, out=lambda: scratch.take(name, shape, left))
        distances.diagonal(offset=rows.start, dim1=-2, dim2=-1).fill_(torch.inf)
        return distances

    def of_rows(self, place: tuple[int, int], rows: Tensor) -> Tensor:
        """Return distances of ``rows (b,)`` of one item and partner to all rows, ``(b, n)``."""
        left, right = self._sides()
        distances = left[place][rows] @ right[place].mT
        return distances.scatter_(-1, rows.unsqueeze(-1), torch.inf)

    def error(self, items: slice, rows: slice, radius: Tensor) -> Tensor:
        """Return how far distances near ``radius (..., b)`` may be from the exact ones.

        Rounding of a product of m terms grows about as sqrt(m) eps/2 times the sum of their
        sizes, (|a| + |b|)^2; and |b| <= |a| + sqrt(radius) for rows so near. No proof but a
        rule, held on normal, clustered and heavy-tailed rows of 2 to 2048 columns.
        """
        unit = torch.finfo(self._rows.dtype).eps / 2.0
        lengths = self._norms[items, ..., rows, 0].sqrt()
        reach = torch.add(radius.clamp(min=0.0).sqrt_(), lengths, alpha=2.0)
        return reach.square_().mul_((1.0 + math.sqrt(self._rows.shape[-1] + 2)) * unit)


def _centre(rows: Tensor) -> Tensor:
    """Return about the mean of ``rows (..., n, d)``, to 10 bits of each column's range.

    With so few digits whole numbers stay exact when they are centred, and in all products that
    follow: no rounding then decides which of two equal distances is the larger.
    """
    if rows.shape[-2] == 0:
        return rows.sum(-2, keepdim=True)
    low = rows.amin(-2, keepdim=True)
    spread = rows.amax(-2, keepdim=True) - low
    unit = spread / spread.frexp().mantissa / 1024.0
    return torch.where(spread > 0, (rows.mean(-2, keepdim=True) / unit).round_() * unit, low)


def kth_smallest(values: Tensor, k: int) -> Tensor:
    """Return the k-th smallest of every row of ``values (..., n)``, contiguous; ``(...)``.

    Long rows are dealt into groups. The k smallest values lie in the k groups of smallest
    minimum, and minima are a fifth of the work of a search.
    """
    n, on_cpu = values.shape[-1], values.device.type == "cpu"
    # Searched are n / size minima and k size values: a size of about sqrt(n / k) makes that least.
    # torch searches rows of less than 64 k values in another, slower way.
    most = n // FEWEST_GROUPS if on_cpu else n // (64 * k)
    size = 1 << max(0, min((n // k).bit_length() // 2, most.bit_length() - 1, 6 if on_cpu else 4))
    rows = values.view(-1, n)
    if size < 4:
        return _kth_smallest(rows, k).view(values.shape[:-1])
    count = n // size
    dealt = rows[:, : size * count].view(rows.shape[0], size, count)
    groups = _smallest_places(dealt.amin(1), k)
    chosen = dealt.gather(2, groups.unsqueeze(1).expand(-1, size, -1)).flatten(1)
    if size * count < n:
        chosen = torch.cat([chosen, rows[:, size * count :]], -1)
    return _kth_smallest(chosen, k).view(values.shape[:-1])


def _kth_smallest(rows: Tensor, k: int) -> Tensor:
    # On a CPU numpy compares several values at once; torch does not, and takes thrice the time.
    if rows.device.type == "cpu":
        return torch.from_numpy(np.partition(rows.numpy(), k - 1, -1)[:, k - 1])
    found: Tensor = rows.topk(k, dim=-1, largest=False).values[:, -1]
    return found


def _smallest_places(rows: Tensor, k: int) -> Tensor:
    if rows.device.type == "cpu":
        return torch.from_numpy(np.argpartition(rows.numpy(), k - 1, -1)[:, :k])
    places: Tensor = rows.topk(k, dim=-1, largest=False, sorted=False).indices
    return places


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
