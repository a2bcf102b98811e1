"""Geometry of the output head: where the unembedding vectors (rows of W, (V, d)) lie.

    head   rows, population, sum_square, sum_fourth, maximum, nonfinite of |w|; column_total (d,) = sum of w;
           total (r,) and outer (r (r + 1) / 2,), the upper triangle row by row, of the projected rows w R

Every row is looked at by one rank: replicas share the rows out, under ZeRO-3 a rank takes the complete rows of its
slice (a row that is cut by the border of two slices is left out: `rows` against `population`, the rows there are),
under vocabulary parallelism its own. So all sums are exact over ranks, and nothing is gathered.

Cost: once a window (`window_level`), after the optimizer's step, two reads of at most 2^22 elements and their
projection (0.5 GFLOP at r = 64). Where a rank has more, it takes every n-th of its rows, always the same
ones, so that windows compare; `rows` says how many. Float32 on the device. Source: "A Markov Categorical Framework for
Language Modeling", 2025, where second moments of unembeddings give the Fisher metric of a linear head.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar, Final, Literal

import numpy as np
import torch
from torch import nn

from infoplane.agent import tokens
from infoplane.agent.layout import Layout
from infoplane.agent.probes.base import Probe, ProbeContext, Scene
from infoplane.agent.probes.holding import Holding, NotReadable, hold
from infoplane.agent.probes.rare import window_level
from infoplane.agent.probes.summaries import largest, summed
from infoplane.agent.roles import Spread
from infoplane.agent.sketch import NORM_FIELDS, add_block_regions, sketch_block
from infoplane.agent.slots import Slot
from infoplane.wire import infoplane_pb2 as pb

MAX_ELEMENTS: Final = 1 << 22
_REGION: Final = "head:w"
_COLUMNS: Final = "head:columns"
_BY_COLUMN_CUT: Final = re.compile(r"Allreduce|RowParallel")


class Head(Probe):
    """Looks at the rows of the head that this rank answers for.

    Args:
        context: of the rank.
        holding: what it has of W; None on a stage without the head.
    """

    name = "head"
    spread = Spread.SHARDS
    in_forward = False
    stage: ClassVar[Literal["each", "first", "last"]] = "last"

    def __init__(self, context: ProbeContext, holding: Holding | None) -> None:
        self.level = window_level(context.settings)
        self._holding = holding
        self._dim = context.settings.sampling.projection_dim
        self._device = context.device
        if holding is not None:
            self.width = holding.shape[1]
            self._first, self._count, self.population = _rows(holding)
            self._stride = max(1, -(-self._count * self.width // MAX_ELEMENTS))

    def reserve(self, layout: Layout) -> None:
        """Reserve moments, norms and the sum of rows: about 4 (r^2 + d) bytes."""
        if self._holding is not None:
            add_block_regions(layout, _REGION, 0, self._dim)
            layout.add(_COLUMNS, torch.float32, self.width)

    def finish(self, scene: Scene) -> None:
        """Sketch the rows, updated as they are now."""
        if self._holding is None:
            return
        scene.slot.capture.notes[self.name] = True
        if not self._count:
            self._write_nothing(scene)
            return
        rows = self._own().to(self._device, torch.float32, non_blocking=True)
        views = scene.slot.device
        matrix = scene.projection.matrix(self.width, rows.device)
        index = torch.zeros(0, dtype=torch.int64, device=rows.device)
        sketch_block(rows, matrix, index, views, _REGION)
        is_finite = torch.linalg.vector_norm(rows, dim=1, keepdim=True).isfinite()
        torch.sum(rows.masked_fill(~is_finite, 0.0), dim=0, out=views[_COLUMNS])

    def _write_nothing(self, scene: Scene) -> None:
        """Say that this rank has no complete row, as the others' sums are complete without it."""
        for name, view in scene.slot.device.items():
            if name.startswith(f"{self.name}:"):
                view.zero_()

    def _own(self) -> torch.Tensor:
        """Return a view of the rows to look at, (n, d)."""
        assert self._holding is not None
        held = self._holding.tensor().reshape(-1)
        start = self._first * self.width - self._holding.first
        own = held[start : start + self._count * self.width].view(self._count, self.width)
        return own[:: self._stride]

    def taps(self, slot: Slot) -> Sequence[pb.TapSketch]:
        """Return the tap `head`."""
        host = slot.host
        norms = dict(zip(NORM_FIELDS, host[f"{_REGION}:norms"], strict=True))
        tap = pb.TapSketch(tap="head", width=self.width)
        tap.summaries.extend(
            (
                summed("rows", norms["n"]),
                summed("population", np.array(self.population)),
                *(summed(name, norms[name]) for name in ("sum_square", "sum_fourth", "nonfinite")),
                largest("maximum", norms["maximum"]),
                summed("column_total", host[_COLUMNS]),
                summed("total", host[f"{_REGION}:total"]),
                summed("outer", host[f"{_REGION}:outer"][np.triu_indices(self._dim)]),
            )
        )
        return [tap]


def build(context: ProbeContext) -> Probe | str:
    """Return the probe, also on pipeline stages without the head, so that all ranks expect the same units."""
    if not context.stack.is_last:
        return Head(context, None)
    module = find_head(context)
    if module is None:
        return "no module named like a head outside the blocks"
    weight: Any = module.weight
    if context.coordinates.tp_size > 1 and _BY_COLUMN_CUT.search(type(module).__name__):
        return "other ranks have the other columns of the head"
    try:
        holding = hold(weight, context.coordinates)
    except NotReadable as why:
        return str(why)
    return Head(context, holding) if len(holding.shape) == 2 else "the head is no matrix"


def find_head(context: ProbeContext) -> nn.Module | None:
    """Return the last module named like a head; in a pipeline, where names are numbers, the last matrix of all."""
    pattern = re.compile(tokens.HEAD_NAMES)
    inside = {id(module) for block in context.stack.blocks for module in block.module.modules()}
    outside = [
        (name.rsplit(".", maxsplit=1)[-1], module)
        for name, module in context.root.named_modules()
        if id(module) not in inside and isinstance(getattr(module, "weight", None), nn.Parameter)
    ]
    named = [module for name, module in outside if pattern.fullmatch(name)]
    if not named and len(context.stack.stages) > 1:
        named = [module for _, module in outside if isinstance(module, nn.Linear)]
    return named[-1] if named else None


def _rows(holding: Holding) -> tuple[int, int, int]:
    """Return (first row, rows, population): what this rank looks at, and its part of the rows there are."""
    total, width = holding.shape
    if holding.size == holding.numel:
        first = total * holding.share // holding.shares
        count = total * (holding.share + 1) // holding.shares - first
        return first, count, count
    begin, end = holding.first, holding.first + holding.size
    first = -(-begin // width)
    # A row belongs to the slice in which it begins, so that every row is in one population.
    return first, max(0, end // width - first), max(0, -(-end // width) - first)
