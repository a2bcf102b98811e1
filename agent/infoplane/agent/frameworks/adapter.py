"""What the agent needs to know about a training framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim import Optimizer

from infoplane.agent.identity import Coordinates
from infoplane.agent.taps import Stack


class Unsupported(Exception):  # noqa: N818 - a finding, not a fault
    """The object given to attach cannot be watched; the message says why."""


class Adapter(Protocol):
    """One training framework, as the agent sees it."""

    name: str
    root: nn.Module
    gate: nn.Module  # whose call is a forward pass: the root, or the compiled module around it
    saves: bool  # whether save_checkpoint does anything

    def step(self) -> int:
        """Return the number of the optimizer step in progress, from 0."""
        ...

    def section(self) -> Mapping[str, Any]:
        """Return the "infoplane" section of the framework's own configuration."""
        ...

    def coordinates(self) -> Coordinates:
        """Return where this rank stands."""
        ...

    def stack(self) -> Stack | None:
        """Return the model's blocks where the framework cut the model up; None where its shape tells."""
        ...

    def targets(self) -> torch.Tensor | None:
        """Return the labels (B, S) of the micro-batch in progress where they do not pass through the model."""
        ...

    def listen(
        self,
        on_boundary: Callable[[int], None],
        on_end: Callable[[], None],
        on_compile: Callable[[], None],
    ) -> None:
        """Report to the agent from now on.

        Args:
            on_boundary: called with the step's number after every optimizer step.
            on_end: called when the engine is destroyed.
            on_compile: called when the framework has compiled the model, before its next forward.
        """
        ...

    def unlisten(self) -> None:
        """Restore the framework's object."""
        ...

    def report(self, log: Callable[[Mapping[str, Any]], None]) -> Callable[[], None]:
        """Give `log` the scalars that the framework itself reports, and return what ends that."""
        ...

    def optimizers(self) -> Sequence[Optimizer]:
        """Return the torch optimizers whose `step` trains the model, as far as the framework knows."""
        ...

    def save_checkpoint(self, folder: str, finished: int) -> None:
        """Write a checkpoint of `finished` steps into `folder`; called on all ranks at once."""
        ...

    def advance(self) -> None:
        """The training loop says that a step is over; frameworks that know by themselves ignore it."""
        ...


def unwrap(module: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return (gate, root): the outermost compiled module, and the user's module inside all wrappers."""
    gate: nn.Module | None = None
    while True:
        inner = getattr(module, "_orig_mod", None)
        if isinstance(inner, nn.Module):
            gate = module if gate is None else gate  # a compiled module may have a length, of 0
        elif isinstance(module, nn.parallel.DistributedDataParallel):
            inner = module.module
        if not isinstance(inner, nn.Module):
            return (module if gate is None else gate), module
        module = inner


def adapt(target: Any, first_step: int) -> Adapter:
    """Return the adapter of `target`: a DeepSpeed engine or an nn.Module.

    Raises:
        Unsupported: it is something else.
    """
    from infoplane.agent.frameworks.deepspeed import DeepSpeedAdapter, is_engine
    from infoplane.agent.frameworks.plain import PlainAdapter

    if is_engine(target):
        return DeepSpeedAdapter(target)
    if isinstance(target, nn.Module):
        return PlainAdapter(target, first_step)
    raise Unsupported(f"{type(target).__name__} is neither a DeepSpeed engine nor an nn.Module")
