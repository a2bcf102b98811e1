"""What the agent needs to know about a training framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import nn
from torch.optim import Optimizer

from infoplane.agent.identity import Coordinates


class Unsupported(Exception):  # noqa: N818 - a finding, not a fault
    """The object given to attach cannot be watched; the message says why."""


class Adapter(Protocol):
    """One training framework, as the agent sees it."""

    name: str
    root: nn.Module
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

    def listen(self, on_boundary: Callable[[int], None], on_end: Callable[[], None]) -> None:
        """Call `on_boundary(step)` after every optimizer step, and `on_end()` when the engine is destroyed."""
        ...

    def unlisten(self) -> None:
        """Restore the framework's object."""
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
