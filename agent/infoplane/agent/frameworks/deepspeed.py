"""DeepSpeed: every quirk of the engine that the agent depends on.

The engine is recognised by its classes' names, so DeepSpeed is not imported for plain modules.
Checked with 0.19.8.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch.distributed as dist
from torch import nn
from torch.optim import Optimizer

from infoplane.agent.frameworks.adapter import Unsupported
from infoplane.agent.identity import Coordinates, data_parallel_coordinates

_WRAPPED: Final = ("step", "destroy")
_log = logging.getLogger("infoplane.agent")


def is_engine(target: Any) -> bool:
    """Return whether `target` is a DeepSpeed engine of any kind."""
    return any(kind.__name__ == "DeepSpeedEngine" for kind in type(target).__mro__)


class DeepSpeedAdapter:
    """Watches the module inside `engine`.

    `engine.step` is replaced on the instance and compares `global_steps`: it moves once per
    optimizer step, also on an overflow, while `micro_steps` moves on every call.

    Raises:
        Unsupported: a pipeline engine; its micro-batches do not pass through the root's forward.
    """

    name = "deepspeed"
    saves = True

    def __init__(self, engine: Any) -> None:
        if any(kind.__name__ == "PipelineEngine" for kind in type(engine).__mro__):
            raise Unsupported("pipeline engines are not tapped yet")
        self._engine = engine
        self.root: nn.Module = engine.module
        self._wrappers: dict[str, Callable[..., Any]] = {}

    def step(self) -> int:
        """Return engine.global_steps; correct after a checkpoint was loaded."""
        return int(self._engine.global_steps)

    def section(self) -> Mapping[str, Any]:
        """Return the section of the config that the engine was built from; DeepSpeed accepts unknown sections."""
        config = getattr(self._engine, "_config", None)
        found = (getattr(config, "_param_dict", None) or {}).get("infoplane", {})
        return found if isinstance(found, Mapping) else {"infoplane": found}

    def coordinates(self) -> Coordinates:
        """Return the data-parallel rank and the sizes that the engine states."""
        plain = data_parallel_coordinates()
        dp, dp_size = self._data_parallel(plain)
        return Coordinates(
            rank=plain.rank,
            world=plain.world,
            dp=dp,
            dp_size=dp_size,
            tp_size=getattr(self._engine, "mp_world_size", 1) or 1,
            sp_size=getattr(self._engine, "sequence_parallel_size", 1) or 1,
        )

    def _data_parallel(self, plain: Coordinates) -> tuple[int, int]:
        group = getattr(self._engine, "data_parallel_group", None)
        if group is None or not dist.is_initialized():
            return plain.dp, plain.dp_size
        return dist.get_rank(group), dist.get_world_size(group)

    def listen(self, on_boundary: Callable[[int], None], on_end: Callable[[], None]) -> None:
        """Wrap `engine.step` and `engine.destroy` on the instance."""
        engine = self._engine
        original_step, original_destroy = engine.step, engine.destroy

        def step(*args: Any, **kwargs: Any) -> Any:
            before = engine.global_steps
            result = original_step(*args, **kwargs)
            if engine.global_steps != before:
                on_boundary(int(before))
            return result

        def destroy(*args: Any, **kwargs: Any) -> Any:
            on_end()
            return original_destroy(*args, **kwargs)

        engine.step, engine.destroy = step, destroy
        self._wrappers = {"step": step, "destroy": destroy}

    def unlisten(self) -> None:
        """Remove the wrappers, unless somebody wrapped them again."""
        for name in _WRAPPED:
            if self._engine.__dict__.get(name) is self._wrappers.get(name):
                self._engine.__dict__.pop(name, None)

    def optimizers(self) -> Sequence[Optimizer]:
        """Return the torch optimizer innermost in the wrappers of ZeRO and mixed precision."""
        found: Any = getattr(self._engine, "optimizer", None)
        while not isinstance(found, Optimizer) and hasattr(found, "optimizer"):
            found = found.optimizer
        return (found,) if isinstance(found, Optimizer) else ()

    def save_checkpoint(self, folder: str, finished: int) -> None:
        """Let the engine save, under a tag of its own."""
        self._engine.save_checkpoint(folder, tag=f"infoplane-step{finished}")

    def advance(self) -> None:
        """Do nothing: engine.step() is the boundary."""
