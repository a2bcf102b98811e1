"""Pair sums of Cauchy-Schwarz quantities from random Fourier features."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from infoplane.estimators.mutual_information.gram_sums import PairSums
from infoplane.estimators.state.fourier import X_SIDE, Y_SIDE, FourierFeatures, FourierMoments


def features_of(rows: Tensor, maps: FourierFeatures, side: int) -> Tensor:
    """Return what `FourierFeatures.of_side` returns, for ``rows (n, d)`` on any device."""
    frequencies = torch.tensor(maps.frequencies(side), device=rows.device)
    first, second = (rows.to(torch.float64) @ frequencies).chunk(2, 1)
    parts = [first.cos(), first.sin(), second.cos(), second.sin()]
    return torch.cat(parts, 1) / math.sqrt(maps.features // 2)


def sums_of_rows(
    x: Tensor, y: Tensor, maps: FourierFeatures, orders: Tensor
) -> tuple[list[PairSums], PairSums]:
    """Return sums of one item ``x (n, dx)``, ``y (n, dy)``, and ``(p,)`` for ``orders (p, n)``.

    Returns:
        Sums of x with y, of x with x, of y with y; and of x with y in the other orders. Cost
        O((1 + p) n D^2), float64.
    """
    phi, psi = features_of(x, maps, X_SIDE), features_of(y, maps, Y_SIDE)
    own = []
    for features in (phi, psi):
        first, second = features.chunk(2, 1)
        own.append(_pair_sums(len(x), first.sum(0), second.sum(0), first.mT @ second, 2.0))
    total_x, total_y = phi.sum(0), psi.sum(0)
    pair = _pair_sums(len(x), total_x, total_y, phi.mT @ psi, 1.0)
    shuffled = [_pair_sums(len(x), total_x, total_y, phi.mT @ psi[order], 1.0) for order in orders]
    return [pair, *own], _stacked(shuffled, pair)


def sums_of_moments(moments: FourierMoments) -> list[PairSums]:
    """Return sums of x with y, of x with x, of y with y; 0-dimensional each."""
    x, y = torch.from_numpy(moments.x), torch.from_numpy(moments.y)
    xy, xx, yy = (torch.from_numpy(one) for one in (moments.xy, moments.xx, moments.yy))
    (x_first, x_second), (y_first, y_second) = x.chunk(2), y.chunk(2)
    return [
        _pair_sums(moments.n, x, y, xy, 1.0),
        _pair_sums(moments.n, x_first, x_second, xx, 2.0),
        _pair_sums(moments.n, y_first, y_second, yy, 2.0),
    ]


def _pair_sums(n: int, left: Tensor, right: Tensor, product: Tensor, scale: float) -> PairSums:
    """Return sums of the kernels of two feature maps of squared norm ``1 / scale``.

    A row's kernel with itself is exactly 1, so that the diagonal can be taken out of the sums.
    """
    own_left, own_right = scale * left.dot(left), scale * right.dot(right)
    mixed = scale**2 * left.dot(product @ right)
    return PairSums(
        own_left.new_tensor(float(n)),
        scale**2 * product.square().sum() - n,
        mixed - own_left - own_right + n,
        own_left - n,
        own_right - n,
    )


def _stacked(sums: list[PairSums], like: PairSums) -> PairSums:
    names = ("n", "product", "rows", "left", "right")
    if not sums:
        return PairSums(*(getattr(like, name).new_zeros(0) for name in names))
    return PairSums(*(torch.stack([getattr(one, name) for one in sums]) for name in names))
