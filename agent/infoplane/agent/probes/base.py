"""What a probe is, and what it may look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from infoplane.agent.batch import Batch
from infoplane.agent.identity import Coordinates
from infoplane.agent.layout import Layout
from infoplane.agent.projection import Projection
from infoplane.agent.roles import Spread
from infoplane.agent.settings import Settings
from infoplane.agent.slots import Slot
from infoplane.agent.taps import Stack
from infoplane.wire import infoplane_pb2 as pb


@dataclass(slots=True)
class Scene:
    """The sampled step, as probes see it.

    Attributes:
        step: number of the step.
        slot: `slot.device[name]` are the probe's regions; `slot.capture.notes` takes what is known on the host.
        projection: builds R.
        guard: what must stand around tensor work outside the methods and hooks of a probe, such as a gradient hook:
            `with scene.guard(name)` counts time and errors as the agent's own and lets none through.
        sample: (rows, device, length of a sequence) -> positions of the step's sampled rows, int64 (k,), equal for all
            taps of the step; raises ValueError for another number of rows than the step has.
        batch: token ids of the micro-batch, where the rank sees them.
        is_forward: the forward of the sampled micro-batch runs.
        is_recompute: the call comes from a backward pass (activation checkpointing).
    """

    step: int
    slot: Slot
    projection: Projection
    sample: Callable[[int, torch.device, int], torch.Tensor]
    guard: Callable[[str], AbstractContextManager[None]]
    batch: Batch | None = None
    is_forward: bool = True
    is_recompute: bool = False


Function = Callable[[Scene, nn.Module, Any, Any], None]


@dataclass(frozen=True, slots=True)
class Place:
    """A hook that a probe wants in the model.

    Attributes:
        module: where.
        function: called with (scene, module, args, output), under no_grad and without autocast. Its errors end the
            probe, never training.
        is_input: called before the module runs, with ((args, kwargs), None).
        is_late: stays until the end of the step and sees later micro-batches and recomputed forwards too; it must look
            at `scene.is_forward` and `scene.is_recompute`. For what hangs on the backward pass.
    """

    module: nn.Module
    function: Function
    is_input: bool = False
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class ProbeContext:
    """What a probe is built from.

    Attributes:
        root: the model.
        stack: its blocks on this rank.
        rows: k, sampled rows of a step.
        device: where activations are.
    """

    root: nn.Module
    stack: Stack
    settings: Settings
    coordinates: Coordinates
    rows: int
    device: torch.device


class Probe:
    """One kind of capture.

    All methods but `taps` and `fill` run on the training thread: fixed shapes, no host sync, no random state.
    A record goes out for every sampled step in which the probe left something true in `slot.capture.notes[name]`.

    Attributes:
        name: of the probe, of its setting `probes.<name>` and of its unit.
        spread: who sends.
        stage: which pipeline stages have one.
        in_forward: it watches the forward or backward pass, which it cannot do in a compiled model.
        level: sampled every 2^level-th step at most.
    """

    name: ClassVar[str]
    spread: ClassVar[Spread] = Spread.REPLICAS
    stage: ClassVar[Literal["each", "first", "last"]] = "each"
    in_forward: ClassVar[bool] = True
    level: int = 0

    def reserve(self, layout: Layout) -> None:
        """Reserve regions, named `<name>:...`."""

    def places(self) -> Iterable[Place]:
        """Return the hooks."""
        return ()

    def begin(self, scene: Scene) -> None:
        """The forward of the sampled micro-batch begins."""

    def end(self, scene: Scene, output: Any) -> None:
        """The forward of the sampled micro-batch is over; `output` is the model's."""

    def finish(self, scene: Scene) -> None:
        """The step is over: backward passes and the optimizer have run."""

    def close(self) -> None:
        """Undo what is not a hook; the agent is detached."""

    def taps(self, slot: Slot) -> Sequence[pb.TapSketch]:
        """Return the record's taps. Publisher thread: `slot.host` and `slot.capture.notes`; numpy, never torch."""
        raise NotImplementedError

    def fill(self, sketch: pb.Sketch, slot: Slot) -> None:
        """Complete the record's sketch; override to add row keys. Publisher thread."""
        sketch.taps.extend(self.taps(slot))
