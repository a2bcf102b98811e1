"""Units: which taps travel together in one record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from infoplane.agent.taps import Discovery, Tap

TOKENS: Final = "tokens"
SCALARS: Final = "scalars"
AGENT: Final = "agent"


@dataclass(frozen=True, slots=True)
class LayerUnit:
    """A group of neighbouring layers.

    Attributes:
        name: `layers/00-07`.
        taps: its own taps.
        duplicates: taps of other units that it carries too, so that every pair of neighbours meets
            in one record.
    """

    name: str
    taps: tuple[Tap, ...]
    duplicates: tuple[Tap, ...]


def group(found: Discovery, layers_per_unit: int) -> tuple[LayerUnit, ...]:
    """Return the units of the taps found, in order of layers; groups without taps are left out."""
    digits = max(2, len(str(found.num_layers - 1)))
    units = []
    for first in range(0, found.num_layers, layers_per_unit):
        last = min(first + layers_per_unit, found.num_layers) - 1
        taps = tuple(
            tap for tap in found.taps if _owner(tap, found.num_layers) in range(first, last + 1)
        )
        if taps:
            name = f"layers/{first:0{digits}}-{last:0{digits}}"
            units.append(LayerUnit(name, taps, _inputs(found.taps, first)))
    return tuple(units)


def _owner(tap: Tap, num_layers: int) -> int:
    return min(max(tap.layer, 0), num_layers - 1)


def _inputs(taps: Sequence[Tap], first: int) -> tuple[Tap, ...]:
    """Return the output of the block before layer `first`; `embed` is the first group's own."""
    return tuple(
        tap for tap in taps if first > 0 and tap.layer == first - 1 and tap.name.endswith("/block")
    )
