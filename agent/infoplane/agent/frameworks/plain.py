"""Plain PyTorch: a module, possibly wrapped, and a loop that calls monitor.step()."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from infoplane.agent.identity import Coordinates, data_parallel_coordinates


class PlainAdapter:
    """Watches `module`; counts steps from `first_step` by calls of `advance`."""

    name = "plain"
    saves = False

    def __init__(self, module: nn.Module, first_step: int) -> None:
        self.root = _unwrapped(module)
        self._step = first_step
        self._on_boundary: Callable[[int], None] | None = None

    def step(self) -> int:
        """Return the step in progress."""
        return self._step

    def section(self) -> Mapping[str, Any]:
        """Return nothing: plain loops have no configuration."""
        return {}

    def coordinates(self) -> Coordinates:
        """Return the coordinates of torch.distributed, or of a single process."""
        return data_parallel_coordinates()

    def listen(self, on_boundary: Callable[[int], None], on_end: Callable[[], None]) -> None:
        """Remember whom to call; a plain module has no end."""
        self._on_boundary = on_boundary

    def unlisten(self) -> None:
        """Forget it."""
        self._on_boundary = None

    def optimizers(self) -> Sequence[Optimizer]:
        """Return none: a module does not know its optimizer, attach is told."""
        return ()

    def save_checkpoint(self, folder: str, finished: int) -> None:
        """Do nothing: attach is told how, too."""

    def advance(self) -> None:
        """End the step in progress."""
        finished, self._step = self._step, self._step + 1
        if self._on_boundary is not None:
            self._on_boundary(finished)


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the user's module inside torch.compile and DistributedDataParallel wrappers."""
    while True:
        inner = getattr(module, "_orig_mod", None)
        if inner is None and isinstance(module, nn.parallel.DistributedDataParallel):
            inner = module.module
        if not isinstance(inner, nn.Module):
            return module
        module = inner
