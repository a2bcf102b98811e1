"""Numbers of tokens, (m, s): reduced to one number per event where they are, without a host sync."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from infoplane.agent.rewards.device import Kept
from infoplane.agent.rewards.errors import EventError

Mask: TypeAlias = "npt.NDArray[Any] | torch.Tensor"
"""Which tokens belong to the event, (m, s): zero = not, anything else = yes."""


def checked_mask(mask: Any, size: int) -> torch.Tensor | None:
    """Return `mask` as bool (size, s) on its device, None if there is none.

    Raises:
        EventError: not such a mask.
    """
    if mask is None:
        return None
    if not isinstance(mask, torch.Tensor | np.ndarray):
        raise EventError("mask", "an array or a tensor", type(mask).__name__)
    if mask.ndim != 2 or mask.shape[0] != size:
        raise EventError("mask", f"shape ({size}, tokens)", f"shape {tuple(mask.shape)}")
    found = mask.detach() if isinstance(mask, torch.Tensor) else _from_numpy("mask", mask)
    return found != 0


def reduce_tokens(name: str, values: Kept, mask: torch.Tensor | None, *, sums: bool) -> Kept:
    """Return the sum or the mean (m,) of `values` (m, s) under `mask`; values (m,) as they are.

    What is not under the mask is not looked at, be it NaN. The mean of no tokens is NaN. Half precision is summed in
    float32. Cost: two or three kernels over (m, s).

    Raises:
        EventError: no mask of that shape where the values are.
    """
    if values.ndim != 2:
        return values
    found = values if isinstance(values, torch.Tensor) else _from_numpy(name, values)
    if mask is None or mask.shape != found.shape:
        known = "no mask" if mask is None else f"a mask of shape {tuple(mask.shape)}"
        raise EventError(name, f"a mask of shape {tuple(found.shape)}", known)
    if mask.device != found.device:
        # To bring one to the other would wait for the device.
        raise EventError(name, f"a mask on {found.device}", f"one on {mask.device}")
    with torch.no_grad():
        wide = found.to(torch.promote_types(found.dtype, torch.float32))
        total = torch.where(mask, wide, 0.0).sum(1)
        return total if sums else total / mask.sum(1)


def count_tokens(mask: torch.Tensor) -> torch.Tensor:
    """Return the number of tokens under `mask` (m, s), (m,)."""
    return mask.sum(1)


def _from_numpy(name: str, values: npt.NDArray[Any]) -> torch.Tensor:
    if values.dtype.kind not in "biuf":
        raise EventError(name, "numbers", values.dtype.name)
    # torch warns about arrays that it could not write to, and refuses negative strides.
    return torch.from_numpy(np.require(values, None, ["C", "W"]))
