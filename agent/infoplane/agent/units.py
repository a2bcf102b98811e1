"""Units: which taps travel together in one record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from infoplane.agent.taps import Discovery, Stack, Tap

TOKENS: Final = "tokens"
SCALARS: Final = "scalars"
AGENT: Final = "agent"
ANCHOR: Final = "anchor"


@dataclass(frozen=True, slots=True)
class LayerUnit:
    """A group of neighbouring layers.

    Attributes:
        name: `layers/00-07`, or `shards/00-07`; the name of a collection may stand for `layers`, and
            `<collection>-shards` for `shards`.
        taps: its own taps.
        duplicates: taps of other units that it carries too, so that every pair of neighbours meets
            in one record.
        is_sharded: every rank of a tensor-parallel group sends columns of its own.
        level: sampled every 2^level-th step at most.
    """

    name: str
    taps: tuple[Tap, ...]
    duplicates: tuple[Tap, ...]
    is_sharded: bool = False
    level: int = 0

    @property
    def kind(self) -> str:
        """Return the first part of the name: what units of other layers are called too."""
        return self.name.partition("/")[0]


def group(found: Discovery, layers_per_unit: int) -> tuple[LayerUnit, ...]:
    """Return the units of the taps found, in order of layers; groups without taps are left out.

    Taps of which every rank of a tensor-parallel group has other columns get units of their own, and so do the taps
    of every collection.
    """
    units = []
    kinds = dict.fromkeys([("", 0), *((tap.collection, tap.level) for tap in found.taps)])
    for layers in _groups(found.stack.stages[found.stack.stage], layers_per_unit):
        taps = [tap for tap in found.taps if _owner(tap, found.stack.total) in layers]
        for collection, level in kinds:
            for is_sharded in (False, True):
                own = tuple(
                    tap for tap in taps
                    if tap.is_sharded == is_sharded and tap.collection == collection
                )  # fmt: skip
                if own:
                    inputs = () if is_sharded or collection else _inputs(found, layers.start)
                    name = _name(found.stack, _kind(collection, is_sharded), layers)
                    units.append(LayerUnit(name, own, inputs, is_sharded, level))
    return tuple(units)


def expected_names(found: Discovery, layers_per_unit: int, span: int) -> tuple[str, ...]:
    """Return the layer units of all pipeline stages that every window of `span` steps has.

    Which kinds the other stages have is guessed from this stage.
    """
    own = [unit for unit in group(found, layers_per_unit) if 1 << unit.level <= span]
    if len(found.stack.stages) == 1:
        return tuple(unit.name for unit in own)
    kinds = dict.fromkeys(unit.kind for unit in own)
    everywhere = {kind for kind in kinds if _is_everywhere(found, own, kind)}
    return tuple(
        _name(found.stack, kind, layers)
        for stage in found.stack.stages
        for layers in _groups(stage, layers_per_unit)
        for kind in kinds
        if kind in everywhere or any(layer in layers for layer in found.layers or ())
    )


def _is_everywhere(found: Discovery, units: list[LayerUnit], kind: str) -> bool:
    """Whether units of this kind have taps in layers that a profile leaves out."""
    if found.layers is None:
        return True
    inside = range(found.stack.total)
    return any(
        tap.layer in inside and tap.layer not in found.layers
        for unit in units
        for tap in unit.taps
        if unit.kind == kind
    )


def _kind(collection: str, is_sharded: bool) -> str:
    if not collection:
        return "shards" if is_sharded else "layers"
    return f"{collection}-shards" if is_sharded else collection


def _groups(layers: range, size: int) -> list[range]:
    return [
        range(first, min(first + size, layers.stop))
        for first in range(layers.start, layers.stop, size)
    ]


def _name(stack: Stack, kind: str, layers: range) -> str:
    return f"{kind}/{layers.start:0{stack.digits}}-{layers.stop - 1:0{stack.digits}}"


def _owner(tap: Tap, num_layers: int) -> int:
    return min(max(tap.layer, 0), num_layers - 1)


def _inputs(found: Discovery, first: int) -> tuple[Tap, ...]:
    """Return the last block output before layer `first`; `embed` is the first group's own."""
    before = [
        tap for tap in (*found.inputs, *found.taps)
        if tap.name.endswith("/block") and 0 <= tap.layer < first and not tap.collection
    ]  # fmt: skip
    return (max(before, key=lambda tap: tap.layer),) if before else ()
