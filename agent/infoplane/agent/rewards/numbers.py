"""Numbers and features of events: checked and copied when they are observed, without reading a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from infoplane.agent.projection import Projection
from infoplane.agent.rewards.device import Kept
from infoplane.agent.rewards.errors import EventError
from infoplane.agent.rewards.masks import reduce_tokens

Numbers: TypeAlias = "Sequence[Any] | npt.NDArray[Any] | torch.Tensor"
"""One number per event, in one dimension; where a mask is given, also one per token, (m, s)."""

Features: TypeAlias = "npt.NDArray[Any] | torch.Tensor"
"""One row per event, (m, d)."""


def hold_numbers(
    name: str,
    values: Numbers,
    size: int,
    mask: torch.Tensor | None = None,
    *,
    sums: bool = False,
) -> Kept:
    """Return a copy of `values`, (size,), where it is; a few us.

    Numbers of tokens, (size, s), are summed under `mask`, or averaged.

    Raises:
        EventError: not `size` numbers in one dimension, nor such of tokens under a mask.
    """
    # Numbers of tokens need no copy: what they are reduced to is one.
    if isinstance(values, torch.Tensor) and values.ndim == 2 and not values.is_complex():
        found: Kept = values.detach()
    else:
        found = _copied(name, values)
    kept = reduce_tokens(name, found, mask, sums=sums)
    if tuple(kept.shape) != (size,):
        raise EventError(name, f"{size} numbers in one dimension", f"shape {tuple(kept.shape)}")
    return kept


def _copied(name: str, values: Numbers) -> Kept:
    if isinstance(values, torch.Tensor):
        if values.is_complex():
            raise EventError(name, "real numbers", str(values.dtype))
        return values.detach().clone()
    if isinstance(values, list | tuple) and any(isinstance(v, torch.Tensor) for v in values):
        return _stacked(name, values)
    try:
        array = np.array(values)
    except (ValueError, TypeError):
        raise EventError(name, "numbers", type(values).__name__) from None
    if array.dtype.kind not in "biuf":
        raise EventError(name, "numbers", f"{array.dtype.name} in a {type(values).__name__}")
    return array.astype(np.float64)


def _stacked(name: str, values: Sequence[Any]) -> torch.Tensor:
    """Return tensors of one element as one tensor: float() would wait for the device."""
    if not all(isinstance(v, torch.Tensor) and v.numel() == 1 for v in values):
        raise EventError(name, "numbers, or tensors of one element", "a mixture")
    return torch.stack([value.detach().reshape(()) for value in values])


def hold_features(name: str, values: Features, size: int, projection: Projection) -> torch.Tensor:
    """Return float32 (size, k) on the device of `values`: projected to k = projection.dim columns where wider.

    A NaN or an infinity in a row that is projected becomes NaN or an infinity in the whole row. Cost: a copy, or
    2 size d k flop; the first call of a width builds the projection.

    Raises:
        EventError: not `size` rows of numbers.
    """
    found = _as_tensor(name, values)
    if found.ndim != 2 or found.shape[0] != size or not found.shape[1] or found.is_complex():
        shape = f"{found.dtype} of shape {tuple(found.shape)}"
        raise EventError(name, f"real numbers of shape ({size}, d)", shape)
    if found.shape[1] <= projection.dim:
        return found.to(torch.float32, copy=True)
    # Leaves inference mode too, so that the projection that is kept can be used outside of it.
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast(found.device.type, enabled=False),
    ):
        return found.float() @ projection.matrix(found.shape[1], found.device)


def _as_tensor(name: str, values: Any) -> torch.Tensor:
    if isinstance(values, torch.Tensor):
        return values.detach()
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        found = values.dtype.name if isinstance(values, np.ndarray) else type(values).__name__
        raise EventError(name, "a tensor or an array of numbers", found)
    with np.errstate(over="ignore", invalid="ignore"):
        # torch warns about arrays that it could not write to, and refuses negative strides.
        return torch.from_numpy(np.require(values, np.float32, ["C", "W"]))
