"""DeepSpeed: every quirk of the engine that the agent depends on.

The engine is recognised by its classes' names, so DeepSpeed is not imported for plain modules.
Checked with 0.19.8.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from infoplane.agent.frameworks.adapter import unwrap
from infoplane.agent.frameworks.deepspeed_layout import coordinates, is_pipeline, pipeline_stack
from infoplane.agent.frameworks.deepspeed_monitor import tee_events
from infoplane.agent.identity import Coordinates
from infoplane.agent.taps import Stack

_log = logging.getLogger("infoplane.agent")


def is_engine(target: Any) -> bool:
    """Return whether `target` is a DeepSpeed engine of any kind."""
    return any(kind.__name__ == "DeepSpeedEngine" for kind in type(target).__mro__)


class DeepSpeedAdapter:
    """Watches the module inside `engine`.

    `engine.step`, for a pipeline `engine.train_batch`, is replaced on the instance and compares `global_steps`: it
    moves once per optimizer step, also on an overflow, while `micro_steps` moves on every call.
    """

    name = "deepspeed"
    saves = True

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._is_pipeline = is_pipeline(engine)
        self.gate, self.root = unwrap(engine.module)
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
        """Return where this rank stands in the parallel layout."""
        return coordinates(self._engine)

    def stack(self) -> Stack | None:
        """Return the blocks of this stage of a pipeline."""
        return pipeline_stack(self._engine) if self._is_pipeline else None

    def targets(self) -> torch.Tensor | None:
        """Return the labels of micro-batch 0 on the last stage of a pipeline: they go to the loss function."""
        if not self._is_pipeline or not self._engine.is_last_stage():
            return None
        # Micro-batch 0 is always in the first buffer.
        labels = next(iter(self._engine.pipe_buffers.get("labels", [])), None)
        return labels if isinstance(labels, torch.Tensor) else None

    def listen(
        self,
        on_boundary: Callable[[int], None],
        on_end: Callable[[], None],
        on_compile: Callable[[], None],
    ) -> None:
        """Wrap what ends a step and `engine.destroy` on the instance."""
        engine = self._engine
        name = "train_batch" if self._is_pipeline else "step"
        original_step, original_destroy = getattr(engine, name), engine.destroy
        original_compile = engine.compile

        def step(*args: Any, **kwargs: Any) -> Any:
            before = engine.global_steps
            result = original_step(*args, **kwargs)
            if engine.global_steps != before:
                on_boundary(int(before))
            return result

        def destroy(*args: Any, **kwargs: Any) -> Any:
            on_end()
            return original_destroy(*args, **kwargs)

        def compile_(*args: Any, **kwargs: Any) -> Any:
            result = original_compile(*args, **kwargs)
            on_compile()
            return result

        self._wrappers = {name: step, "destroy": destroy, "compile": compile_}
        for wrapped, wrapper in self._wrappers.items():
            setattr(engine, wrapped, wrapper)

    def unlisten(self) -> None:
        """Remove the wrappers, unless somebody wrapped them again."""
        for name, wrapper in self._wrappers.items():
            if self._engine.__dict__.get(name) is wrapper:
                self._engine.__dict__.pop(name, None)

    def report(self, log: Callable[[Mapping[str, Any]], None]) -> Callable[[], None]:
        """Put a tee in the place of the engine's monitor."""
        return tee_events(self._engine, log)

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
