"""Plain PyTorch: a module, possibly wrapped, and a loop that calls monitor.step()."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from infoplane.agent.frameworks.adapter import unwrap
from infoplane.agent.identity import Coordinates, data_parallel_coordinates
from infoplane.agent.taps import Stack


class PlainAdapter:
    """Watches `module`; counts steps from `first_step` by calls of `advance`."""

    name = "plain"
    saves = False

    def __init__(self, module: nn.Module, first_step: int) -> None:
        self.gate, self.root = unwrap(module)
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

    def stack(self) -> Stack | None:
        """Return None: the model is whole."""
        return None

    def targets(self) -> torch.Tensor | None:
        """Return None: labels are among the model's arguments, or unknown."""
        return None

    def listen(
        self,
        on_boundary: Callable[[int], None],
        on_end: Callable[[], None],
        on_compile: Callable[[], None],
    ) -> None:
        """Remember whom to call; a plain module has no end."""
        self._on_boundary = on_boundary

    def unlisten(self) -> None:
        """Forget it."""
        self._on_boundary = None

    def report(self, log: Callable[[Mapping[str, Any]], None]) -> Callable[[], None]:
        """Report nothing: a module has no scalars of its own."""
        return lambda: None

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
