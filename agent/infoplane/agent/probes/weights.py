"""Updates of the weights of every block, seen through a fixed sample of elements.

    NN/weights   population, elements, sum_square = |W|^2, nonfinite; from the second look on delta_square = |dW|^2,
                 inner = <W, dW> with W of now, sketch (r,) of dW, and the steps since the look before as
                 steps_smallest and steps_largest

Of the trainable elements of a block 4096 are chosen by a hash of their place, the same ones in every run and on
every rank (all of them where there are fewer). W and dW are restricted to these; times population / elements, sums
estimate those of the whole block. The sketch is a CountSketch: element i goes to bucket h(i) with sign s(i), so inner
products of the sketches of two windows estimate those of their updates a and b, with a standard deviation of about
|a| |b| / sqrt(r). Sketches of ranks add up. Where windows are not a power of two of sampled steps wide, a window may
have two looks: its sketch is that of the sum of both updates. Windows with steps_smallest < steps_largest mix
intervals, as a rank missed a look.

Every element is counted by one rank, see `infoplane.agent.probes.holding`. Weights are those that the model computes
with: under bf16 an update below the resolution of the weight is not seen.

Cost: once a window (`window_level`), after the optimizer's step, one gather per parameter; 32 KB per block for the
values before. No copy of the model, no collective, no host sync, no random state.
Source: Charikar, Chen and Farach-Colton, "Finding frequent items in data streams", ICALP 2002.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from infoplane.agent.hashing import UIntArray, chain, mix_array
from infoplane.agent.layout import Layout
from infoplane.agent.probes.base import Probe, ProbeContext, Scene
from infoplane.agent.probes.holding import Holding, NotReadable, hold
from infoplane.agent.probes.rare import window_level
from infoplane.agent.probes.summaries import largest, smallest, summed
from infoplane.agent.roles import Spread
from infoplane.agent.slots import Slot
from infoplane.agent.taps import Block
from infoplane.wire import infoplane_pb2 as pb

ELEMENTS: Final = 4096
VERSION: Final = 1
_FIELDS: Final = ("sum_square", "delta_square", "inner", "nonfinite")
_SUMS: Final = "weights:sums"
_SKETCH: Final = "weights:sketch"


@dataclass(frozen=True, slots=True)
class _Piece:
    """Sampled elements of one parameter that this rank answers for.

    Attributes:
        positions: within `holding.tensor()`, int64 (m,), on its device.
        identities: hashes of the elements' places, uint64 (m,): equal on whatever rank an element lies.
    """

    holding: Holding
    positions: torch.Tensor
    identities: UIntArray


class Weights(Probe):
    """Keeps the sampled elements of the look before.

    Args:
        context: of the rank.
        holdings: of the trainable parameters of every block, in the same order on all ranks.
    """

    name = "weights"
    spread = Spread.SHARDS
    in_forward = False

    def __init__(self, context: ProbeContext, holdings: Sequence[Sequence[Holding]]) -> None:
        blocks, dim = context.stack.blocks, context.settings.sampling.projection_dim
        self.level = window_level(context.settings)
        self._sites = [context.stack.site(block.index, "weights") for block in blocks]
        self._device, self._dim = context.device, dim
        sampled = [_sample(block.index, own) for block, own in zip(blocks, holdings, strict=True)]
        self._pieces = [piece for pieces in sampled for piece in pieces]
        sizes = [sum(piece.positions.numel() for piece in pieces) for pieces in sampled]
        self._elements = sizes
        self._population = [sum(held.size for held in own if held.share == 0) for own in holdings]
        identities = np.concatenate(
            [np.zeros(0, np.uint64), *(piece.identities for piece in self._pieces)]
        )
        row = np.repeat(np.arange(len(blocks)), sizes)
        bucket = row * dim + (identities % np.uint64(dim)).astype(np.int64)
        sign = np.where(identities >> np.uint64(63), -1.0, 1.0)
        self._row, self._bucket, self._sign = (
            torch.from_numpy(array).to(self._device) for array in (row, bucket, sign)
        )
        self._before = torch.zeros(len(identities), dtype=torch.float64, device=self._device)
        self._step = -1

    def reserve(self, layout: Layout) -> None:
        """Reserve sums (L, 4) and sketches (L, r)."""
        layout.add(_SUMS, torch.float64, len(_FIELDS), len(self._sites))
        layout.add(_SKETCH, torch.float64, len(self._sites) * self._dim)

    def finish(self, scene: Scene) -> None:
        """Look at the updated weights."""
        views = scene.slot.device
        values = self._values()
        is_finite = values.isfinite()
        values = values.masked_fill(~is_finite, 0.0)
        delta = values - self._before
        columns = (values.square(), delta.square(), values * delta, (~is_finite).double())
        for out, column in zip(views[_SUMS], columns, strict=True):
            out.zero_().index_add_(0, self._row, column)
        views[_SKETCH].zero_().index_add_(0, self._bucket, delta * self._sign)
        # The first look has nothing to compare with.
        steps = scene.step - self._step if self._step >= 0 else 0
        scene.slot.capture.notes[self.name] = {"steps": steps}
        self._before.copy_(values)
        self._step = scene.step

    def _values(self) -> torch.Tensor:
        parts = [
            torch.take(piece.holding.tensor(), piece.positions).to(
                self._device, torch.float64, non_blocking=True
            )
            for piece in self._pieces
        ]
        return torch.cat(parts) if parts else self._before

    def taps(self, slot: Slot) -> Sequence[pb.TapSketch]:
        """Return one tap per block."""
        steps = slot.capture.notes[self.name]["steps"]
        sketches = slot.host[_SKETCH].reshape(-1, self._dim)
        return [self._tap(number, steps, slot, sketches) for number in range(len(self._sites))]

    def _tap(
        self, number: int, steps: int, slot: Slot, sketches: npt.NDArray[np.float64]
    ) -> pb.TapSketch:
        sums = dict(zip(_FIELDS, slot.host[_SUMS][:, number], strict=True))
        tap = pb.TapSketch(tap=self._sites[number])
        tap.summaries.extend(
            (
                summed("population", np.array(self._population[number])),
                summed("elements", np.array(self._elements[number])),
                summed("sum_square", sums["sum_square"]),
                summed("nonfinite", sums["nonfinite"]),
            )
        )
        if steps:
            tap.summaries.extend(
                (
                    summed("delta_square", sums["delta_square"]),
                    summed("inner", sums["inner"]),
                    summed("sketch", sketches[number]),
                    smallest("steps_smallest", np.array(steps)),
                    largest("steps_largest", np.array(steps)),
                )
            )
        return tap


def build(context: ProbeContext) -> Probe | str:
    """Return the probe of a model with trainable blocks whose parameters can be read."""
    try:
        holdings = [_trainable(block, context) for block in context.stack.blocks]
    except NotReadable as why:
        return str(why)
    return Weights(context, holdings) if any(holdings) else "no trainable parameters in blocks"


def _trainable(block: Block, context: ProbeContext) -> list[Holding]:
    return [
        hold(parameter, context.coordinates)
        for parameter in block.module.parameters()
        if parameter.requires_grad
    ]


def _sample(layer: int, holdings: Sequence[Holding]) -> list[_Piece]:
    """Return this rank's part of the sample of one block; all ranks choose alike."""
    starts = np.cumsum([0, *(held.numel for held in holdings)])
    total = int(starts[-1])
    if total > ELEMENTS:
        drawn = mix_array(np.arange(ELEMENTS, dtype=np.uint64) ^ np.uint64(chain(VERSION, layer)))
        chosen = np.unique(drawn % np.uint64(total)).astype(np.int64)
    else:
        chosen = np.arange(total)
    pieces = []
    for number, held in enumerate(holdings):
        place = chosen[(chosen >= starts[number]) & (chosen < starts[number + 1])] - starts[number]
        # Equal holders take turns.
        own = place[held.share :: held.shares]
        own = own[(own >= held.first) & (own < held.first + held.size)]
        if len(own):
            key = np.uint64(chain(VERSION, layer, number, held.shard))
            positions = torch.from_numpy(own - held.first).to(held.tensor().device)
            pieces.append(_Piece(held, positions, mix_array(own.astype(np.uint64) ^ key)))
    return pieces
