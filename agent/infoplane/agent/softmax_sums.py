"""Sums over some columns of scores, from which the entropy of their softmax follows once all columns are in.

With m the largest score and s the scores, for a set of columns

    total  Z = sum e^(s-m)        dot  A = sum (s-m) e^(s-m)        square  Q = sum (s-m)^2 e^(s-m)

and, for p = softmax(s) over all columns, log sum e^s = m + log Z, H = log Z - A/Z and Var[log p] = Q/Z - (A/Z)^2.
Sets of columns that do not meet are merged exactly: shift both to the larger m and add. So vocabularies that are cut
up over ranks, keys that are (ring and context parallelism), and chunks on one device are the same case.

Everything works without host sync, on fixed shapes. Source: the online softmax, Milakov and Gimelshein 2018.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch

# e^-200 is 0 in float32, and 0 times a finite number is 0 where -inf would make it NaN.
_FLOOR: Final = -200.0
_LOWEST: Final = torch.finfo(torch.float32).min


class SoftmaxSums(NamedTuple):
    """Sums of one set of columns; all tensors have the scores' shape without the last dimension.

    Attributes:
        maximum: m, float32; the lowest float32 where there is no column with a finite score.
        total: Z, float64.
        dot: A, float64.
        square: Q, float64.
    """

    maximum: torch.Tensor
    total: torch.Tensor
    dot: torch.Tensor
    square: torch.Tensor


def sums_of(scores: torch.Tensor) -> SoftmaxSums:
    """Return the sums of `scores`, float32 (..., n) that may hold -inf; NaN and +inf spread to every sum.

    Cost: eight passes over the scores and two scratch arrays of their size. Each sum is taken in float32, whose
    cascade stays within some 1e-7 (a sum in float64 costs sixty times as much on a CPU), and kept in float64, as the
    variance is the difference of two large numbers and parts are to be merged.
    """
    maximum = scores.amax(dim=-1).clamp(min=_LOWEST)
    shift = (scores - maximum.unsqueeze(-1)).clamp_(min=_FLOOR)
    weight = shift.exp()
    total = weight.sum(dim=-1).double()
    dot = weight.mul_(shift).sum(dim=-1).double()
    square = weight.mul_(shift).sum(dim=-1).double()
    return SoftmaxSums(maximum, total, dot, square)


def merge_sums(one: SoftmaxSums, other: SoftmaxSums) -> SoftmaxSums:
    """Return the sums over the columns of both: associative and commutative, up to rounding."""
    maximum = torch.maximum(one.maximum, other.maximum)
    mine, theirs = _moved(one, maximum), _moved(other, maximum)
    return SoftmaxSums(maximum, *(a + b for a, b in zip(mine, theirs, strict=True)))


def _moved(sums: SoftmaxSums, maximum: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return total, dot and square about another, larger maximum."""
    shift = (sums.maximum.double() - maximum.double()).clamp(min=_FLOOR)
    factor = shift.exp()
    dot = sums.dot + shift * sums.total
    square = sums.square + shift * (2 * sums.dot + shift * sums.total)
    return factor * sums.total, factor * dot, factor * square


def entropy_of(sums: SoftmaxSums) -> torch.Tensor:
    """Return H of the softmax in nats, float64; NaN where no column has a finite score."""
    return sums.total.log() - sums.dot / sums.total


def varentropy_of(sums: SoftmaxSums) -> torch.Tensor:
    """Return the variance of log p under p in nats^2, float64; NaN where no column has a finite score."""
    mean = sums.dot / sums.total
    return (sums.square / sums.total - mean.square()).clamp(min=0.0)


def log_total_of(sums: SoftmaxSums) -> torch.Tensor:
    """Return log sum e^s in nats, float64."""
    return sums.maximum.double() + sums.total.log()
