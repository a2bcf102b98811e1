"""Inner products of rows by the fastest of the libraries inside torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import product
from typing import Any

import torch
from torch import Tensor

FEWEST_PRODUCTS = 1 << 20
"""Multiplications of one matrix from which its own call pays."""


def row_products(left: Tensor, right: Tensor, *, out: Callable[[], Tensor] | None = None) -> Tensor:
    """Return inner products of all rows, ``left @ right.mT``.

    float32 on a CPU goes to oneDNN where torch has it: its kernels are those of the processor,
    while MKL, which torch takes for float32, serves some processors (AMD's) at half their speed.
    Anything else is `torch.matmul`. Both round as float32 does, not to the same last digit.

    Args:
        left: Shape ``(..., b, d)``.
        right: Shape ``(..., n, d)``, same leading sizes.
        out: Gives contiguous memory ``(..., b, n)`` that may serve for the answer.

    Returns:
        Shape ``(..., b, n)``, contiguous.
    """
    *lead, b, d = left.shape
    n = right.shape[-2]
    linear = _one_dnn() if left.device.type == "cpu" and left.dtype == torch.float32 else None
    if linear is None or b * d * n < FEWEST_PRODUCTS or not torch.backends.mkldnn.enabled:
        return torch.matmul(left, right.mT, out=None if out is None else out())
    left, right = left.detach(), right.detach()
    if all(size == 1 for size in lead):
        found: Tensor = linear(left.reshape(b, d), right.reshape(n, d), None, "none", [], "")
        return found.view(*lead, b, n)
    answer = left.new_empty((*lead, b, n)) if out is None else out()
    for place in product(*map(range, lead)):
        answer[place] = linear(left[place], right[place], None, "none", [], "")
    return answer


@lru_cache(maxsize=1)
def _one_dnn() -> Callable[..., Any] | None:
    """Return torch's door to oneDNN's product, None where it is not there or not as expected.

    torch has no public one for dense float32 tensors. It is the one its own compiler uses.
    """
    try:
        linear: Callable[..., Any] = torch.ops.mkldnn._linear_pointwise.default
        rows = torch.arange(6.0).view(2, 3)
        right = torch.equal(linear(rows, rows, None, "none", [], ""), rows @ rows.mT)
    except (AttributeError, RuntimeError, TypeError):
        return None
    return linear if right else None


def full_precision() -> bool:
    """Return whether float32 products are float32's, not those of a coarser type."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # torch refuses to say when its old and its new settings are mixed.
        return False
