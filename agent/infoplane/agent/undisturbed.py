"""Extra forward passes that training does not notice."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import nn

Batch: TypeAlias = "Mapping[str, Any] | Sequence[Any] | torch.Tensor | Callable[[nn.Module], Any]"
"""What a model is called with: keyword arguments, arguments, its only argument, or a function that calls it."""


@contextmanager
def undisturbed(root: nn.Module) -> Iterator[None]:
    """Put `root` in eval mode without gradients; afterwards flags and random states are bit-equal to before.

    Random states are those of Python, numpy, the CPU and every CUDA device. Flags are set without calling `train`,
    which some modules override to merge weights. Cost: a pass over all modules, and 5 KB a device.
    """
    flags = [(module, module.training) for module in root.modules()]
    python, arrays, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    has_devices = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = torch.cuda.get_rng_state_all() if has_devices else []
    try:
        for module, _ in flags:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, flag in flags:
            module.training = flag
        random.setstate(python)
        np.random.set_state(arrays)
        torch.set_rng_state(cpu)
        if devices:
            torch.cuda.set_rng_state_all(devices)
        # Weights that autocast has cast here have no gradient, and it keeps them until its block ends.
        torch.clear_autocast_cache()


def call(root: nn.Module, batch: Batch) -> Any:
    """Return what `root` makes of `batch`."""
    if isinstance(batch, Mapping):
        return root(**batch)
    if isinstance(batch, torch.Tensor):
        return root(batch)
    if callable(batch):
        return batch(root)
    return root(*batch)
