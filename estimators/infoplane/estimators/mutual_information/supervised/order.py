"""An order of rows that their content alone decides.

A model that splits rows into folds and windows answers differently when a caller shuffles them,
unless the order it works in does not depend on the order it was given. Here rows are sorted by
a salted hash of their ranks: pseudo-random for the statistics, and the same for every order of
rows, every order of columns, every increasing map of a column, and with x and y swapped.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from infoplane.estimators.mutual_information.ranks import normal_scores

STEPS = 1e9
"""Scores are rounded to this part of one where their last bits must not matter."""
_MULTIPLIERS = (0x1B03738712FAD5C9, 0x2545F4914F6CDD1D)


def content_order(x: Tensor, y: Tensor, *, seeds: Sequence[int]) -> Tensor:
    """Return an order of the rows of every item, ``(t, n)``, int64.

    Equal rows are interchangeable, so that ties in the hash between them do not matter.

    Args:
        x: Shape ``(t, n, dx)``, finite.
        y: Shape ``(t, n, dy)``, finite.
        seeds: One per item; another seed gives another order.
    """
    salt = torch.tensor([seed % 2**62 for seed in seeds], dtype=torch.int64, device=x.device)
    key = _mix(_side(x)) + _mix(_side(y))
    return torch.argsort(_mix(key ^ _mix(salt).unsqueeze(-1)), dim=-1, stable=True)


def _side(x: Tensor) -> Tensor:
    """Return a hash per row, ``(t, n)``: sums wrap around and do not depend on columns' order."""
    # Rounded far above the last bit, where devices differ, and far below a step of the rank.
    steps = (normal_scores(x) * STEPS).round().to(torch.int64)
    return _mix(steps + 1).sum(-1)


def _mix(value: Tensor) -> Tensor:
    """Return a well-mixed int64 for every int64; products wrap around."""
    for multiplier in _MULTIPLIERS:
        value = (value ^ ((value >> 31) & 0x1FFFFFFFF)) * multiplier
    return value ^ ((value >> 29) & 0x7FFFFFFFF)
