"""Runs of neighbouring tokens: projected rows of 128 positions in a row, for what has to do with the order of tokens.

    runs/<layer>   rows of the outputs of the first, the middle and the last block on this rank

Sequences are cut into chunks of 128 positions (of their length, where they are shorter); a step takes the two chunks
with the smallest hashes:

    run key = hash(version, key seed, step, data-parallel rank, micro-batch; sequence, chunk) >> 16     48 bits
    row key = run key << 16 | place in the run

So the union of samples by smallest keys keeps whole runs together, as long as the rows kept are a multiple of 128. All
taps of a step take the same runs, and neither layer nor content decides. Keys are of another family than those of the
units `layers/...`: rows of the two do not join. Where sequences are cut up over ranks, chunks do not cross the cuts.

Cost on sampled steps: one hash per chunk, and the projection of 256 rows per tap. 64 KB per tap in the slot, 34 KB on
the wire. No collective, no host sync.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from infoplane.agent.hashing import chain, mix_tensor, shift_right, signed
from infoplane.agent.layout import Layout
from infoplane.agent.outputs import first_float
from infoplane.agent.packing import pack_rows
from infoplane.agent.probes.base import Place, Probe, ProbeContext, Scene
from infoplane.agent.slots import Slot
from infoplane.agent.taps import Block
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire import to_tensor

VERSION: Final = 1
LENGTH: Final = 128
RUNS: Final = 2
MAX_ROWS: Final = LENGTH * RUNS
_DOMAIN: Final = 0x72756E73  # "runs": another hash than that of the row keys
_PLACE_BITS: Final = 16


class Runs(Probe):
    """Takes the same runs from three blocks."""

    name = "runs"

    def __init__(self, context: ProbeContext, blocks: Sequence[Block]) -> None:
        rule, self._at = context.settings.sampling, context.coordinates
        self._blocks = blocks
        self._sites = [f"runs/{block.index:0{context.stack.digits}}" for block in blocks]
        self._key_seed, self._dim = rule.key_seed, rule.projection_dim
        self._index: torch.Tensor | None = None
        self._num_rows = 0

    def reserve(self, layout: Layout) -> None:
        """Reserve keys and rows."""
        layout.add("runs:keys", torch.int64, MAX_ROWS)
        for site in self._sites:
            layout.add(f"{site}:rows", torch.float32, MAX_ROWS, self._dim)

    def places(self) -> Iterable[Place]:
        """Return a hook on every chosen block."""
        for number, block in enumerate(self._blocks):
            yield Place(block.module, partial(self._see, number))

    def begin(self, scene: Scene) -> None:
        """Forget the runs of the step before."""
        self._index, self._num_rows = None, 0

    def _see(self, number: int, scene: Scene, module: nn.Module, args: Any, output: Any) -> None:
        value = first_float(output).detach()
        rows = value.reshape(-1, value.shape[-1])
        index = self._choose(scene, value, rows.shape[0])
        matrix = scene.projection.matrix(rows.shape[1], rows.device)
        out = scene.slot.device[f"{self._sites[number]}:rows"][: index.shape[0]]
        torch.mm(rows.index_select(0, index).float(), matrix, out=out)
        notes = scene.slot.capture.notes.setdefault(self.name, {"widths": {}})
        notes["rows"], notes["total"] = index.shape[0], rows.shape[0]
        notes["widths"][number] = rows.shape[1]

    def _choose(self, scene: Scene, value: torch.Tensor, num_rows: int) -> torch.Tensor:
        """Return the positions of the step's runs, int64 (rows,); the first tap of a step decides."""
        if self._index is None:
            length = int(value.shape[1]) if value.ndim >= 3 else 0
            length = scene.batch.length if scene.batch is not None else length or num_rows
            keys, self._index = self._pick(scene.step, num_rows // length, length, value.device)
            scene.slot.device["runs:keys"][: keys.shape[0]].copy_(keys)
            self._num_rows = num_rows
        if num_rows != self._num_rows:
            raise ValueError(f"{num_rows} rows where other taps have {self._num_rows}")
        return self._index

    def _pick(
        self, step: int, sequences: int, length: int, device: torch.device
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (keys, positions), ascending by key as unsigned numbers."""
        run = min(LENGTH, length)
        chunks = length // run
        number = torch.arange(sequences * chunks, dtype=torch.int64, device=device)
        sequence, chunk = number // chunks, number % chunks
        base = signed(chain(VERSION, _DOMAIN, self._key_seed, step, self._at.dp, 0))
        hashes = mix_tensor(((sequence << 32) | (self._at.sp * chunks + chunk)) ^ base)
        run_keys = shift_right(hashes, _PLACE_BITS)
        size = min(RUNS, sequences * chunks)
        smallest = torch.topk(run_keys, size, largest=False, sorted=True)
        chosen = smallest.indices
        first = sequence[chosen] * length + chunk[chosen] * run
        place = torch.arange(run, dtype=torch.int64, device=device)
        keys = (smallest.values.unsqueeze(1) << _PLACE_BITS) | place
        return keys.reshape(-1), (first.unsqueeze(1) + place).reshape(-1)

    def taps(self, slot: Slot) -> Sequence[pb.TapSketch]:
        """Return the rows of the blocks that ran."""
        notes = slot.capture.notes[self.name]
        return [
            pb.TapSketch(
                tap=self._sites[number],
                width=notes["widths"][number],
                rows=pack_rows(slot.host[f"{self._sites[number]}:rows"][: notes["rows"]]),
            )
            for number in sorted(notes["widths"])
        ]

    def fill(self, sketch: pb.Sketch, slot: Slot) -> None:
        """Add the keys of the rows to the taps."""
        super().fill(sketch, slot)
        notes = slot.capture.notes[self.name]
        sketch.rows_total = notes["total"]
        keys = slot.host["runs:keys"][: notes["rows"]]
        sketch.row_keys.CopyFrom(to_tensor(keys.view(np.uint64)))


def build(context: ProbeContext) -> Probe | str:
    """Return the probe of a model with blocks on this rank."""
    blocks = context.stack.blocks
    if not blocks:
        return "no blocks"
    places = sorted({0, len(blocks) // 2, len(blocks) - 1})
    return Runs(context, [blocks[place] for place in places])
