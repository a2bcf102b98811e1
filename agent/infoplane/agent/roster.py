"""The roster of a rank: which units it sends, which ones the run has, and what is not captured and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from infoplane.agent.identity import Coordinates
from infoplane.agent.probes import Probe
from infoplane.agent.roles import Role, Spread, role
from infoplane.agent.settings import Settings
from infoplane.agent.taps import Discovery, Stack
from infoplane.agent.units import AGENT, SCALARS, TOKENS, LayerUnit, expected_names, group


@dataclass(frozen=True, slots=True)
class Roster:
    """What this rank sends.

    Attributes:
        names: every unit of the run that is in each window, over all ranks.
        roles: this rank's units.
        layer_units: those with taps.
        probes: those that this rank runs.
    """

    names: tuple[str, ...]
    roles: Mapping[str, Role]
    layer_units: tuple[LayerUnit, ...]
    probes: tuple[Probe, ...]


def enroll(
    found: Discovery,
    probes: Sequence[Probe],
    settings: Settings,
    at: Coordinates,
    *,
    cuts_vocabulary: bool = False,
) -> Roster:
    """Return the roster; agreed with all other ranks without a word, since layout and settings are the same.

    `cuts_vocabulary`: every rank of a tensor-parallel group has logits of its own.
    """
    stack = found.stack
    # Units that are too rare to be in every window are nobody's expectation.
    span = settings.sampling.width << settings.sampling.base_level
    names = [*expected_names(found, settings.units.layers, span)]
    roles: dict[str, Role] = {}
    layer_units, own = [], []
    for unit in group(found, settings.units.layers):
        mine = role(at, Spread.SHARDS if unit.is_sharded else Spread.REPLICAS, unit.level)
        if mine is not None:
            roles[unit.name] = mine
            layer_units.append(unit)
    for probe in probes:
        names += [name for name in unit_names(probe, stack) if 1 << probe.level <= span]
        mine = role(at, probe.spread, probe.level)
        if mine is not None and _is_here(probe, stack):
            roles[stack.unit(probe.name)] = mine
            own.append(probe)
    mine = role(at, Spread.SHARDS if cuts_vocabulary else Spread.REPLICAS)
    if mine is not None and stack.is_last:
        roles[TOKENS] = mine
    for name in (SCALARS, AGENT):
        roles[name] = Role(at.rank, at.world)
    return Roster((*names, TOKENS, SCALARS, AGENT), roles, tuple(layer_units), tuple(own))


def unit_names(probe: Probe, stack: Stack) -> list[str]:
    """Return the probe's units over all pipeline stages."""
    stages = {"first": [0], "last": [len(stack.stages) - 1]}.get(
        probe.stage, list(range(len(stack.stages)))
    )
    return [stack.unit(probe.name, stage) for stage in stages]


def _is_here(probe: Probe, stack: Stack) -> bool:
    return (
        probe.stage == "each"
        or (probe.stage == "first" and stack.is_first)
        or (probe.stage == "last" and stack.is_last)
    )


def capability_table(
    found: Discovery, probes: Sequence[Probe], without: Mapping[str, str], at: Coordinates
) -> str:
    """Return one line per site and probe: what is captured on this rank, and what is not and why."""
    lines = [_where(found.stack, at), found.table()]
    lines += [f"  {probe.name:<10} captured" for probe in probes]
    lines += [f"  {name:<10} not captured: {reason}" for name, reason in without.items()]
    return "\n".join(lines)


def _where(stack: Stack, at: Coordinates) -> str:
    sizes = (("dp", at.dp, at.dp_size), ("tp", at.tp, at.tp_size), ("pp", at.pp, at.pp_size),
             ("sp", at.sp, at.sp_size), ("ep", at.ep, at.ep_size))  # fmt: skip
    place = ", ".join(f"{name} {rank} of {size}" for name, rank, size in sizes if size > 1)
    layers = stack.stages[stack.stage]
    return f"  {'rank':<10} {at.rank} of {at.world}" + (
        f" ({place}; blocks {layers.start} to {layers.stop - 1} of {stack.total})" if place else ""
    )
