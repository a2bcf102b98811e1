"""Joint second moments of up to 8 block outputs: what one tap says about another, over all tokens of the micro-batch.

    joint   n, total (D,), outer (D (D + 1) / 2,) the upper triangle of sum z z^T row by row, taps (t,)

z are the D = 16 t columns of all taps side by side, in the order of `taps`, which are layer indices: the taps are
evenly spaced, the first and the last block among them. Each is projected to 16 columns by a projection of its own, with
the seed of the deployment. Rows with a value that is not finite in any tap are left out of all sums.

Cost on sampled steps: t projections to 16 columns (2 N d 16 flop each, a read of the activation) and one product of
2 N D^2 flop. Memory: 4 N D bytes from the first tap to the end of the forward, 512 bytes a token for 8 taps; 66 KB in
the slot. Under pipeline parallelism every stage has the taps of its own blocks. Float32 on the device.
Source: "Multimodal Molecular Pretraining via Modality Blending", 2023 (predictability of one tap from the others).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from infoplane.agent.layout import Layout
from infoplane.agent.outputs import first_float
from infoplane.agent.probes.base import Place, Probe, ProbeContext, Scene
from infoplane.agent.probes.summaries import largest, summed
from infoplane.agent.profiles import evenly
from infoplane.agent.projection import Projection
from infoplane.agent.slots import Slot
from infoplane.agent.taps import Block
from infoplane.wire import infoplane_pb2 as pb

MAX_TAPS: Final = 8
DIM: Final = 16


class Joint(Probe):
    """Projects block outputs as they come, and multiplies them at the end of the forward."""

    name = "joint"

    def __init__(self, blocks: Sequence[Block], seed: int) -> None:
        self._blocks = blocks
        self._projection = Projection(DIM, seed)
        self._seen: dict[int, torch.Tensor] = {}
        self._columns = DIM * len(blocks)

    def reserve(self, layout: Layout) -> None:
        """Reserve the sums."""
        layout.add("joint:n", torch.float64, 1)
        layout.add("joint:total", torch.float32, self._columns)
        layout.add("joint:outer", torch.float32, self._columns, self._columns)

    def places(self) -> Iterable[Place]:
        """Return a hook on every block."""
        for number, block in enumerate(self._blocks):
            yield Place(block.module, partial(self._see, number))

    def begin(self, scene: Scene) -> None:
        """Forget what a forward that was broken off has left."""
        self._seen.clear()

    def _see(self, number: int, scene: Scene, module: nn.Module, args: Any, output: Any) -> None:
        if number in self._seen:
            return
        value = first_float(output).detach()
        x = value.reshape(-1, value.shape[-1]).float()
        self._seen[number] = x @ self._projection.matrix(x.shape[1], x.device)

    def end(self, scene: Scene, output: Any) -> None:
        """Write the sums; nothing if a block did not run, as with dropped layers."""
        seen, self._seen = self._seen, {}
        if len(seen) < len(self._blocks):
            return
        z = torch.cat([seen[number] for number in range(len(self._blocks))], dim=1)
        is_finite = z.sum(dim=1, keepdim=True).isfinite()
        z = z.masked_fill(~is_finite, 0.0)
        device = scene.slot.device
        torch.sum(is_finite, dim=0, dtype=torch.float64, out=device["joint:n"])
        torch.sum(z, dim=0, out=device["joint:total"])
        torch.mm(z.t(), z, out=device["joint:outer"])
        scene.slot.capture.notes[self.name] = True

    def taps(self, slot: Slot) -> Sequence[pb.TapSketch]:
        """Return the one tap."""
        outer = slot.host["joint:outer"]
        layers = np.array([block.index for block in self._blocks], dtype=np.int64)
        summaries = [
            summed("n", slot.host["joint:n"]),
            summed("total", slot.host["joint:total"]),
            summed("outer", outer[np.triu_indices(outer.shape[0])]),
            largest("taps", layers),
        ]
        return [pb.TapSketch(tap=self.name, width=self._columns, summaries=summaries)]


def build(context: ProbeContext) -> Probe | str:
    """Return the probe of a model with at least two blocks on this rank."""
    blocks = context.stack.blocks
    if len(blocks) < 2:
        return "needs two blocks"
    chosen = [blocks[place] for place in evenly(len(blocks), MAX_TAPS)]
    return Joint(chosen, context.settings.sampling.projection_seed)
