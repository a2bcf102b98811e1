"""What a tap computes from an activation: tensor operations of fixed shape that write into preallocated buffers.

No host sync, no shape that depends on data, no random state, no collective. Symbols: x rows (N, d)
at full width, R the projection (d, r), y = x R (N, r), k sampled rows.

`block` sketches cost one projection (2 N d r flop) and about two reads of x. `act` sketches look
at the elements of the k sampled rows only: a histogram of all N d elements would cost about 10 ns
each on a CPU, more than the layer. What does not need x itself is written for several taps at once
(`infoplane.agent.pending`).

Float32 on the device (float64 for the N norms), float64 when summed downstream. On a GPU with TF32
matmuls switched on, y carries TF32 error. Rows with a NaN, an infinity or a norm above 1.8e19 are
left out of every sum and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch

from infoplane.agent.layout import Layout
from infoplane.estimators.state import (
    BUCKETS_PER_OCTAVE,
    BUCKETS_PER_SIGN,
    MIN_EXPONENT,
    LogBuckets,
)

Views = Mapping[str, torch.Tensor]

_UNSIGNED: Final = LogBuckets(signed=False)
_SIGNED: Final = LogBuckets(signed=True)
# One bucket more than the layout has: non-finite values land there.
NORM_BINS: Final = _UNSIGNED.size + 1
ELEMENT_BINS: Final = _SIGNED.size + 1
ACT_ELEMENTS: Final = 1 << 15
_LARGEST: Final = torch.finfo(torch.float32).max
NORM_FIELDS: Final = ("n", "sum_square", "sum_fourth", "maximum", "nonfinite")


def add_block_regions(layout: Layout, tap: str, rows: int, dim: int) -> None:
    """Reserve what `sketch_block` writes: about 4 (r^2 + k r) bytes."""
    layout.add(f"{tap}:total", torch.float32, dim)
    layout.add(f"{tap}:outer", torch.float32, dim, dim)
    layout.add(f"{tap}:norms", torch.float64, len(NORM_FIELDS))
    layout.add(f"{tap}:norm_counts", torch.int32, NORM_BINS)
    layout.add(f"{tap}:rows", torch.float32, rows, dim)


def add_act_regions(layout: Layout, tap: str) -> None:
    """Reserve what `sketch_act` writes: 3 KB."""
    layout.add(f"{tap}:elements", torch.int32, ELEMENT_BINS)


def sketch_block(
    rows: torch.Tensor, matrix: torch.Tensor, index: torch.Tensor, views: Views, tap: str
) -> None:
    """Write the moments, norms, norm histogram and sampled rows of `rows`.

    Args:
        rows: x, (N, d), any float type.
        matrix: R, float32 (d, r).
        index: positions of the sampled rows, int64 (k,).
        views: regions of the slot.
        tap: name of the tap.
    """
    norms = torch.empty((1, rows.shape[0]), device=rows.device)
    projected = torch.empty((1, rows.shape[0], matrix.shape[1]), device=rows.device)
    project(rows, matrix, norms[0], projected[0])
    write_blocks(norms, projected, index, views, [tap])


def project(
    rows: torch.Tensor, matrix: torch.Tensor, norms: torch.Tensor, projected: torch.Tensor
) -> None:
    """Write what needs all columns of `rows` (N, d): their norms (N,) and y = x R (N, r), both float32."""
    x = rows.float()
    torch.linalg.vector_norm(x, dim=1, out=norms)
    torch.mm(x, matrix, out=projected)


def write_blocks(
    norms: torch.Tensor,
    projected: torch.Tensor,
    index: torch.Tensor,
    views: Views,
    taps: Sequence[str],
) -> None:
    """Write everything else of `taps`, g of them at once.

    Args:
        norms: of the rows, float32 (g, N).
        projected: y, float32 (g, N, r); overwritten.
        index: positions of the sampled rows, int64 (k,).
        views: regions of the slot.
        taps: their names.
    """
    sampled = projected.index_select(1, index)
    exact = norms.double()
    is_odd = exact.isfinite().logical_not_()
    store(views, taps, "norms", norm_sums(exact, is_odd))
    held = projected.masked_fill_(is_odd.unsqueeze(-1), 0.0)
    bins = _magnitude_bins(exact).masked_fill_(is_odd, NORM_BINS - 1)
    store(views, taps, "rows", sampled)
    store(views, taps, "total", held.sum(1))
    store(views, taps, "outer", torch.bmm(held.mT, held))
    store(views, taps, "norm_counts", _counts(bins, NORM_BINS))


def add_partial_regions(layout: Layout, tap: str, rows: int, dim: int) -> None:
    """Reserve what `sketch_partial` writes."""
    layout.add(f"{tap}:rows", torch.float32, rows, dim)


def sketch_partial(
    rows: torch.Tensor, matrix: torch.Tensor, index: torch.Tensor, views: Views, tap: str
) -> None:
    """Write this rank's part of the projected sampled rows of a column-parallel tap.

    `rows` (N, c) are c of the d columns and `matrix` (c, r) their rows of R; x R is the sum of the parts of all ranks.
    Products such as y y^T have to wait for that sum, so nothing else is written.
    """
    x = rows.index_select(0, index).float()
    torch.mm(x, matrix, out=views[f"{tap}:rows"][: index.shape[0]])


def sketch_act(
    rows: torch.Tensor, index: torch.Tensor, views: Views, tap: str, width: int = 0
) -> None:
    """Write the signed histogram of elements of the sampled rows of `rows` (N, d).

    `width` is d where the rank has only some of the columns, so that all ranks take the same rows.
    """
    some = act_rows(index, width or rows.shape[1])
    write_acts(rows.index_select(0, some).view(1, -1), views, [tap])


def act_rows(index: torch.Tensor, width: int) -> torch.Tensor:
    """Return the positions whose elements are counted: those with the smallest keys, as many as `ACT_ELEMENTS` allows.

    A smaller sample of the same kind: counting is what costs, about 12 ns an element on a CPU, and a window gathers
    many steps.
    """
    return index[: max(ACT_ELEMENTS // width, 1)]


def write_acts(elements: torch.Tensor, views: Views, taps: Sequence[str]) -> None:
    """Write the signed histograms of `elements` (g, n), one tap a row; they are overwritten."""
    x = elements.float()
    magnitude = x.abs()
    # In place where possible: on a CPU, fresh pages cost more than the arithmetic. A comparison
    # that NaN fails: isfinite is twice as slow.
    is_odd = magnitude.le(_LARGEST).logical_not_()
    bins = _magnitude_bins(magnitude).mul_(x.sign_()).add_(_SIGNED.zero_index)
    bins.masked_fill_(is_odd, ELEMENT_BINS - 1)
    store(views, taps, "elements", _counts(bins, ELEMENT_BINS))


def _magnitude_bins(magnitude: torch.Tensor) -> torch.Tensor:
    """Turn |x| in place into 0 below 2^-24 and 1 .. 384 above, still floats; NaN stays NaN."""
    shift = 1 - MIN_EXPONENT * BUCKETS_PER_OCTAVE
    scaled = magnitude.log2_().mul_(BUCKETS_PER_OCTAVE).floor_()
    return scaled.add_(shift).clamp_(0, BUCKETS_PER_SIGN)


def norm_sums(norms: torch.Tensor, is_odd: torch.Tensor) -> torch.Tensor:
    """Return `NORM_FIELDS` of the norms of rows, float64 (g, N), as (g, 5); `is_odd` tells which are not finite."""
    held = norms.masked_fill(is_odd, 0.0)
    square = held.square()
    odd = is_odd.sum(-1, dtype=torch.float64)
    fourth = square.square().sum(-1)
    parts = (held.shape[-1] - odd, square.sum(-1), fourth, held.amax(-1), odd)
    return torch.stack(parts, -1)


def _counts(bins: torch.Tensor, size: int) -> torch.Tensor:
    """Return how often each bin occurs in a row of `bins` (g, n); torch.bincount would ask the host for the largest."""
    found = torch.zeros((bins.shape[0], size), dtype=torch.int32, device=bins.device)
    one = torch.ones((), dtype=torch.int32, device=bins.device)
    return found.scatter_add_(1, bins.long(), one.expand_as(bins))


def store(views: Views, taps: Sequence[str], region: str, values: torch.Tensor) -> None:
    """Copy `values` (g, m, ...) to the regions of g taps, the first m entries of each, in few launches on a GPU."""
    places = [views[f"{tap}:{region}"][: values.shape[1]] for tap in taps]
    torch._foreach_copy_(places, list(values.unbind(0)))
