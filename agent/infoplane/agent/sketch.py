"""What a tap computes from an activation: tensor operations of fixed shape that write into preallocated buffers.

No host sync, no shape that depends on data, no random state, no collective. Symbols: x rows (N, d)
at full width, R the projection (d, r), y = x R (N, r), k sampled rows.

`block` sketches cost one projection (2 N d r flop) and about two reads of x. `act` sketches look
at the elements of the k sampled rows only: a histogram of all N d elements would cost about 10 ns
each on a CPU, more than the layer.

Float32 on the device (float64 for the N norms), float64 when summed downstream. On a GPU with TF32
matmuls switched on, y carries TF32 error. Rows with a NaN, an infinity or a norm above 1.8e19 are
left out of every sum and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
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
    x = rows.float()
    norm = torch.linalg.vector_norm(x, dim=1).double()
    is_finite = norm.isfinite()
    projected = x @ matrix
    held = projected.masked_fill(~is_finite.unsqueeze(1), 0.0)
    torch.sum(held, dim=0, out=views[f"{tap}:total"])
    torch.mm(held.t(), held, out=views[f"{tap}:outer"])
    _write_norms(norm, is_finite, views[f"{tap}:norms"])
    bins = _magnitude_bins(norm.clone()).masked_fill_(~is_finite, NORM_BINS - 1)
    _count(bins.long(), views[f"{tap}:norm_counts"])
    torch.index_select(projected, 0, index, out=views[f"{tap}:rows"][: index.shape[0]])


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

    The rows with the smallest keys, as many as `ACT_ELEMENTS` allows: a smaller sample of the same kind. Counting is
    what costs here, about 12 ns an element on a CPU, and a window gathers many steps. `width` is d where the rank has
    only some of the columns, so that all ranks take the same rows.
    """
    x = rows.index_select(0, index[: max(ACT_ELEMENTS // (width or rows.shape[1]), 1)]).float()
    magnitude = x.abs()
    # In place where possible: on a CPU, fresh pages cost more than the arithmetic. A comparison
    # that NaN fails: isfinite is twice as slow.
    is_odd = magnitude.le(_LARGEST).logical_not_()
    bins = _magnitude_bins(magnitude).mul_(x.sign_()).add_(_SIGNED.zero_index)
    _count(bins.masked_fill_(is_odd, ELEMENT_BINS - 1).long().view(-1), views[f"{tap}:elements"])


def _magnitude_bins(magnitude: torch.Tensor) -> torch.Tensor:
    """Turn |x| in place into 0 below 2^-24 and 1 .. 384 above, still floats; NaN stays NaN."""
    shift = 1 - MIN_EXPONENT * BUCKETS_PER_OCTAVE
    scaled = magnitude.log2_().mul_(BUCKETS_PER_OCTAVE).floor_()
    return scaled.add_(shift).clamp_(0, BUCKETS_PER_SIGN)


def _write_norms(norm: torch.Tensor, is_finite: torch.Tensor, out: torch.Tensor) -> None:
    held = norm.masked_fill(~is_finite, 0.0)
    square = held.square()
    count = is_finite.sum(dtype=torch.float64)
    fourth = square.square().sum()
    parts = (count, square.sum(), fourth, held.max(), norm.shape[0] - count)
    torch.stack(parts, out=out)


def _count(bins: torch.Tensor, out: torch.Tensor) -> None:
    """Write how often each bin occurs; torch.bincount would have to look at the largest on the host."""
    out.zero_()
    one = torch.ones((), dtype=torch.int32, device=bins.device)
    out.scatter_add_(0, bins, one.expand_as(bins))
