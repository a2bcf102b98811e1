"""Finding the tensor that matters in what a module returns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch


def first_float(value: Any) -> torch.Tensor:
    """Return the first floating tensor with a last dimension inside `value`: tensor, sequence or mapping.

    Raises:
        TypeError: there is none.
    """
    found = find_float(value)
    if found is None:
        raise TypeError(f"no floating tensor of two dimensions in a {type(value).__name__}")
    return found


def find_float(value: Any) -> torch.Tensor | None:
    """Return what `first_float` returns, or None."""
    for tensor in _tensors(value):
        if tensor.is_floating_point() and tensor.ndim >= 2:
            return tensor
    return None


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            yield from _tensors(item)


def find_logits(output: Any, num_rows: int) -> torch.Tensor | None:
    """Return the (..., V) floating tensor in `output` with `num_rows` rows, or None."""
    named = getattr(output, "logits", None)
    for tensor in _tensors(named if isinstance(named, torch.Tensor) else output):
        if not tensor.is_floating_point() or tensor.ndim < 2:
            continue
        if tensor.numel() == num_rows * tensor.shape[-1]:
            return tensor
    return None


def sequence_length(value: torch.Tensor) -> int:
    """Return the length of a sequence of an activation (B, S, ..., d); 0 where the shape does not tell."""
    return int(value.shape[1]) if value.ndim >= 3 else 0
