"""Inputs and outputs of the activation function f of every block, on the elements of the step's sampled rows.

    NN/activation   n, nonfinite, input_sum, input_square, output_sum, output_square, product = sum x f(x),
                    input_negative, output_negative, output_zero (counts), inputs (770,): counts in the 769
                    signed log buckets of `infoplane.estimators.state`, then of inputs that are not finite

    function        which one, a number of `infoplane.wire.activations`

What gain f has follows from sums: output_square / input_square is the gain of the second moment; the slope of the
regression of f(x) on x, (product / n - mean x mean f) / var x, is the mean derivative E f'(x) where x is Gaussian
(Stein's lemma), and a proxy for it elsewhere. f itself is not called again.

The rows are those of the taps `NN/act`, at most 2^15 elements a step. Where tensor parallelism cuts up the columns,
every rank sends its own. Cost on sampled steps: some ten passes over these elements. No collective, no host sync.
Sources: "A Method on Searching Better Activation Functions", 2024; Stein, "Estimation of the mean of a multivariate
normal distribution", Annals of Statistics 1981.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from infoplane.agent.discovery import discover
from infoplane.agent.layout import Layout
from infoplane.agent.outputs import first_float, sequence_length
from infoplane.agent.pending import alike
from infoplane.agent.probes.base import Place, Probe, ProbeContext, Scene
from infoplane.agent.probes.summaries import largest, summed
from infoplane.agent.roles import Spread
from infoplane.agent.sketch import ACT_ELEMENTS, add_act_regions, store, write_acts
from infoplane.agent.slots import Slot
from infoplane.agent.taps import Tap
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.activations import FUNCTIONS

_COUNTED: Final = ("input_negative", "output_negative", "output_zero")
_FIELDS: Final = (
    "n", "nonfinite", "input_sum", "input_square", "output_sum", "output_square", "product", *_COUNTED,
)  # fmt: skip

_BY_CLASS: Final = {
    "ReLU": "relu", "GELUActivation": "gelu", "NewGELUActivation": "gelu_tanh", "FastGELUActivation": "gelu_tanh",
    "GELUTanh": "gelu_tanh", "PytorchGELUTanh": "gelu_tanh", "SiLU": "silu", "SiLUActivation": "silu",
    "Tanh": "tanh", "Sigmoid": "sigmoid",
}  # fmt: skip


class Activation(Probe):
    """Looks at what goes into the activation functions, then at what comes out."""

    name = "activation"

    def __init__(self, context: ProbeContext, taps: Sequence[Tap]) -> None:
        self._taps = taps
        self._sites = [context.stack.site(tap.layer, "activation") for tap in taps]
        self._tp_size = context.coordinates.tp_size
        self._inputs: dict[int, torch.Tensor] = {}
        self._seen: dict[int, tuple[torch.Tensor, torch.Tensor, int]] = {}

    def reserve(self, layout: Layout) -> None:
        """Reserve a histogram and sums per block: 3 KB."""
        for number in range(len(self._taps)):
            add_act_regions(layout, _region(number))
            layout.add(f"{_region(number)}:sums", torch.float64, len(_FIELDS))

    def places(self) -> Iterable[Place]:
        """Return two hooks on every activation function: one before it, as it may work in place, and one after."""
        for number, tap in enumerate(self._taps):
            yield Place(tap.module, partial(self._enter, number), is_input=True)
            yield Place(tap.module, partial(self._leave, number))

    def begin(self, scene: Scene) -> None:
        """Forget what a forward that was broken off has left."""
        self._inputs.clear()
        self._seen.clear()

    def _enter(self, number: int, scene: Scene, module: nn.Module, args: Any, _: Any) -> None:
        if number in self._seen or number in scene.slot.capture.notes.get(self.name, {}):
            return
        value = first_float(args).detach()
        rows, index = value.reshape(-1, value.shape[-1]), self._index(number, scene, value)
        self._inputs[number] = rows.index_select(0, index)

    def _leave(self, number: int, scene: Scene, module: nn.Module, args: Any, output: Any) -> None:
        x = self._inputs.pop(number, None)
        if x is None:
            return
        value = first_float(output).detach()
        rows, index = value.reshape(-1, value.shape[-1]), self._index(number, scene, value)
        y = rows.index_select(0, index)
        self._seen[number] = x, y, self._width(number, value)

    def end(self, scene: Scene, output: Any) -> None:
        """Write what was seen, of many blocks at once where launches are what costs."""
        seen, self._seen = self._seen, {}
        notes = scene.slot.capture.notes.setdefault(self.name, {})
        for numbers in alike({number: x for number, (x, _, _) in seen.items()}):
            x = torch.stack([seen[number][0] for number in numbers]).float()
            y = torch.stack([seen[number][1] for number in numbers]).float()
            regions = [_region(number) for number in numbers]
            store(scene.slot.device, regions, "sums", _sums(x.flatten(1), y.flatten(1)))
            write_acts(x.flatten(1), scene.slot.device, regions)
            notes.update({number: seen[number][2] for number in numbers})

    def _index(self, number: int, scene: Scene, value: torch.Tensor) -> torch.Tensor:
        num_rows = value.numel() // value.shape[-1]
        index = scene.sample(num_rows, value.device, sequence_length(value))
        return index[: max(ACT_ELEMENTS // self._width(number, value), 1)]

    def _width(self, number: int, value: torch.Tensor) -> int:
        return int(value.shape[-1]) * (self._tp_size if self._taps[number].is_sharded else 1)

    def taps(self, slot: Slot) -> Sequence[pb.TapSketch]:
        """Return the blocks whose activation function ran."""
        widths: dict[int, int] = slot.capture.notes[self.name]
        return [self._tap(number, widths[number], slot) for number in sorted(widths)]

    def _tap(self, number: int, width: int, slot: Slot) -> pb.TapSketch:
        tap = pb.TapSketch(tap=self._sites[number], width=width)
        sums = zip(_FIELDS, slot.host[f"{_region(number)}:sums"], strict=True)
        tap.summaries.extend(summed(name, value) for name, value in sums)
        tap.summaries.append(summed("inputs", slot.host[f"{_region(number)}:elements"]))
        function = np.array([FUNCTIONS.index(function_of(self._taps[number].module))])
        tap.summaries.append(largest("function", function))
        return tap


class ShardedActivation(Activation):
    """The same where every rank of a tensor-parallel group has columns of its own."""

    spread = Spread.SHARDS


def build(context: ProbeContext) -> Probe | str:
    """Return the probe of a model with activation functions that are modules."""
    wanted = replace(context.settings.taps, act="on")
    tp_size = context.coordinates.tp_size
    found = discover(context.root, wanted, context.stack, tp_size=tp_size)
    taps = [tap for tap in found.taps if tap.kind == "act"]
    if not taps:
        return found.missing.get("act", "no activation modules")
    sharded = [tap for tap in taps if tap.is_sharded]
    return ShardedActivation(context, sharded) if sharded else Activation(context, taps)


def function_of(module: nn.Module) -> str:
    """Return the name of an activation function, one of `infoplane.wire.activations`."""
    name = type(module).__name__
    if isinstance(module, nn.GELU):
        return "gelu" if module.approximate == "none" else "gelu_tanh"
    return _BY_CLASS.get(name, FUNCTIONS[0])


def _region(number: int) -> str:
    return f"activation:{number}"


def _sums(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return `_FIELDS`, float64 (g, 10), of x and y, float32 (g, n); elements that are not finite are left out."""
    is_odd = (x.isfinite() & y.isfinite()).logical_not_()
    x, y = (value.double().masked_fill_(is_odd, 0.0) for value in (x, y))
    odd = is_odd.sum(-1, dtype=torch.float64)
    n, is_zero = x.shape[-1] - odd, (y == 0).logical_and_(is_odd.logical_not())
    sums = (x, x.square(), y, y.square(), x * y, x < 0, y < 0, is_zero)
    parts = [value.sum(-1, dtype=torch.float64) for value in sums]
    return torch.stack([n, odd, *parts], -1)
