"""Gradients of the loss with respect to block outputs, taken from the backward pass of the sampled micro-batch.

    NN/gradient   n, sum_square, maximum, nonfinite over tokens of |g|; of the last block also its projected rows

g (N, d) is what the backward pass carries: the gradient of the loss times the loss scale (fp16), divided by the
gradient accumulation steps where DeepSpeed runs the backward pass. It is recorded as it is. If backward runs more than
once through one graph, the first pass counts.

Where the forward of the micro-batch makes a graph, its outputs get a tensor hook. Where it does not (reentrant and
DeepSpeed's checkpointing), the recomputed outputs do, and a recomputation belongs to the sampled micro-batch if no
other has been through the block, or if it starts from the same memory. With partitioned or offloaded checkpoints memory
differs, so under a pipeline nothing is recorded there.

Cost on sampled steps: about two reads of g per block, and k rows projected for the last one. No collective, no host
sync; the hook returns nothing, so the gradient passes unchanged. Source, for what the rows are for: Tian, "Provable
Scaling Laws of Feature Emergence from Learning Dynamics of Grokking", 2025.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from infoplane.agent.layout import Layout
from infoplane.agent.outputs import first_float, sequence_length
from infoplane.agent.pending import alike
from infoplane.agent.probes.base import Place, Probe, ProbeContext, Scene
from infoplane.agent.probes.summaries import largest, summed
from infoplane.agent.sketch import NORM_FIELDS, norm_sums
from infoplane.agent.slots import Capture, Slot
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire import to_tensor

_SUMS: Final = "gradients:sums"
_ROWS: Final = "gradients:rows"


@dataclass(slots=True)
class _Watch:
    """How far one block is in the sampled step.

    Attributes:
        is_taken: its gradient has a hook.
        address: where the input of the sampled micro-batch lies; None if not known.
        has_others: other micro-batches went through the block.
    """

    is_taken: bool = False
    address: int | None = None
    has_others: bool = False


class Gradients(Probe):
    """Hangs hooks on the outputs of blocks, once per sampled micro-batch."""

    name = "gradients"

    def __init__(self, context: ProbeContext) -> None:
        stack = context.stack
        self._modules = [block.module for block in stack.blocks]
        self._sites = [stack.site(block.index, "gradient") for block in stack.blocks]
        self._last = len(self._modules) - 1 if stack.is_last else -1
        self._num_rows = context.rows
        self._dim = context.settings.sampling.projection_dim
        self._watches: list[_Watch] = []
        self._capture: Capture | None = None
        self._chain: int | None = None
        self._norms: dict[int, tuple[torch.Tensor, int]] = {}

    def reserve(self, layout: Layout) -> None:
        """Reserve sums (L, 5) and the rows (k, r) of the last block."""
        layout.add(_SUMS, torch.float64, len(self._sites), len(NORM_FIELDS))
        layout.add(_ROWS, torch.float32, self._num_rows, self._dim)

    def places(self) -> Iterable[Place]:
        """Return a late hook on every block."""
        return [
            Place(module, partial(self._look, number), is_late=True)
            for number, module in enumerate(self._modules)
        ]

    def begin(self, scene: Scene) -> None:
        """Forget the step before."""
        self._watches = [_Watch() for _ in self._modules]
        self._capture = scene.slot.capture
        self._chain = None
        self._norms = {}

    def finish(self, scene: Scene) -> None:
        """Write what arrived, and turn away gradients that come after the step: the slot is on its way."""
        norms, self._norms, self._capture = self._norms, {}, None
        notes = scene.slot.capture.notes.setdefault(self.name, {})
        places = scene.slot.device[_SUMS]
        for numbers in alike({number: norm for number, (norm, _) in norms.items()}):
            exact = torch.stack([norms[number][0] for number in numbers]).double()
            sums = norm_sums(exact, exact.isfinite().logical_not_())
            torch._foreach_copy_([places[number] for number in numbers], list(sums.unbind(0)))
            notes.update({number: norms[number][1] for number in numbers})

    def _look(self, number: int, scene: Scene, module: nn.Module, args: Any, output: Any) -> None:
        watch = self._watches[number]
        if watch.is_taken:
            return
        found = first_float(output)
        if scene.is_forward:
            if found.requires_grad:
                self._listen(number, scene, found)
            elif watch.address is None:
                watch.address = _address(args)
        elif not scene.is_recompute:
            watch.has_others = True
        elif found.requires_grad and self._is_sampled(watch, args, found):
            self._listen(number, scene, found)

    def _is_sampled(self, watch: _Watch, args: Any, output: torch.Tensor) -> bool:
        """Whether a recomputation is that of the sampled micro-batch.

        A checkpoint of several blocks recomputes them in a chain: the first starts from memory that the forward saw,
        each other one from the output of the block before.
        """
        address = _address(args)
        known = {watch.address, self._chain} - {None}
        is_sampled = not watch.has_others or address in known
        self._chain = output.data_ptr() if is_sampled else None
        return is_sampled

    def _listen(self, number: int, scene: Scene, output: torch.Tensor) -> None:
        index = matrix = None
        if number == self._last:
            rows = output.numel() // output.shape[-1]
            index = scene.sample(rows, output.device, sequence_length(output))
            matrix = scene.projection.matrix(output.shape[-1], output.device)
        self._watches[number].is_taken = True
        # Nothing in here refers to the graph, so the graph goes when backward is done with it.
        output.register_hook(  # type: ignore[no-untyped-call]
            partial(self._arrive, number, scene, self._capture, index, matrix)
        )

    def _arrive(
        self,
        number: int,
        scene: Scene,
        capture: Capture | None,
        index: torch.Tensor | None,
        matrix: torch.Tensor | None,
        gradient: torch.Tensor,
    ) -> None:
        """Write what backward brought; runs in autograd's thread, which is the only one that moves then."""
        if capture is None or capture is not self._capture:
            return
        with scene.guard(self.name):
            if number in self._norms:
                return
            views = scene.slot.device
            rows = gradient.detach().reshape(-1, gradient.shape[-1])
            norm = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32)
            if index is not None and matrix is not None:
                picked = rows.index_select(0, index).float()
                torch.mm(picked, matrix, out=views[_ROWS][: index.shape[0]])
            self._norms[number] = norm, rows.shape[1]

    def taps(self, slot: Slot) -> Sequence[pb.TapSketch]:
        """Return the blocks whose gradients arrived."""
        widths: dict[int, int] = slot.capture.notes[self.name]
        return [self._tap(number, widths[number], slot) for number in sorted(widths)]

    def _tap(self, number: int, width: int, slot: Slot) -> pb.TapSketch:
        # Here, as records knows the probes.
        from infoplane.agent.records import pack_rows

        n, square, _, maximum, nonfinite = slot.host[_SUMS][number]
        tap = pb.TapSketch(tap=self._sites[number], width=width)
        tap.summaries.extend(
            (
                summed("n", n),
                summed("sum_square", square),
                largest("maximum", maximum),
                summed("nonfinite", nonfinite),
            )
        )
        if number == self._last:
            tap.rows.CopyFrom(pack_rows(slot.host[_ROWS][: slot.capture.k]))
        return tap

    def fill(self, sketch: pb.Sketch, slot: Slot) -> None:
        """Add row keys where the last block's rows are in."""
        super().fill(sketch, slot)
        if self._last in slot.capture.notes[self.name]:
            keys = slot.host["keys"][: slot.capture.k]
            sketch.row_keys.CopyFrom(to_tensor(keys.astype(np.uint64)))
            sketch.rows_total = slot.capture.num_rows


def build(context: ProbeContext) -> Probe | str:
    """Return the probe of a model that has blocks."""
    return Gradients(context) if context.stack.blocks else "no blocks found"


def _address(args: Any) -> int | None:
    try:
        return first_float(args).data_ptr()
    except TypeError:
        return None
