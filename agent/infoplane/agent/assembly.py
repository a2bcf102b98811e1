"""Puts a session's parts together: identity, taps, buffers and hooks."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from infoplane.agent import rendezvous, scalars, tokens
from infoplane.agent.breaker import Breaker
from infoplane.agent.compiled import CompileWatch
from infoplane.agent.control import CommandSource, Means
from infoplane.agent.control.control import Setup
from infoplane.agent.counters import Counters
from infoplane.agent.directives import Desk, Expected
from infoplane.agent.directives.reader import ConfigSource
from infoplane.agent.discovery import discover
from infoplane.agent.frameworks import Adapter
from infoplane.agent.hooks import (
    EnterHook,
    HeadHook,
    InputHook,
    LeaveHook,
    OutputHook,
    ProbeHook,
    ProbeInputHook,
)
from infoplane.agent.identity import resolve
from infoplane.agent.layout import Layout
from infoplane.agent.novelty import REGION, novelty_sampling
from infoplane.agent.outlet import transport_factory
from infoplane.agent.probes import Probe, ProbeContext, build_probes
from infoplane.agent.profiles import budget_of
from infoplane.agent.projection import Projection
from infoplane.agent.recorder import Plan, Recorder
from infoplane.agent.records import Envelope
from infoplane.agent.roster import capability_table, enroll, unit_names
from infoplane.agent.sampling import RowSampling, rows_per_step
from infoplane.agent.session import Announce, Parts
from infoplane.agent.settings import Settings
from infoplane.agent.sketch import add_act_regions, add_block_regions, add_partial_regions
from infoplane.agent.slots import SlotRing
from infoplane.agent.taps import Discovery, Tap
from infoplane.agent.transports import TransportFactory
from infoplane.agent.units import TOKENS, LayerUnit
from infoplane.agent.unlike import compare_settings

# Reported from the first record on, so that a reader can tell "none" from "not known".
_ALWAYS: Final = (
    ("steps", ""),
    ("sampled_steps", ""),
    ("step_seconds", ""),
    ("hook_seconds", ""),
    ("publisher_cpu_seconds", ""),
    ("transport_cpu_seconds", ""),
    ("records_sent", ""),
    ("bytes_sent", ""),
    ("records_dropped", "no_slot"),
    ("records_dropped", "queue_full"),
)
_log = logging.getLogger("infoplane.agent")


def build(
    adapter: Adapter,
    settings: Settings,
    announce: Announce | None = None,
    means: Means | None = None,
    commands: CommandSource | None = None,
) -> tuple[Parts, TransportFactory]:
    """Return the parts, with hooks already in the model, and the transport's factory."""
    coordinates = adapter.coordinates()
    identity = resolve(settings, coordinates)
    found = discover(
        adapter.root, settings.taps, adapter.stack(), tp_size=coordinates.tp_size,
        budget=budget_of(settings, coordinates.pieces),
    )  # fmt: skip
    device = next((p.device for p in adapter.root.parameters()), torch.device("cpu"))
    k = rows_per_step(
        settings.sampling.rows_per_window, coordinates.pieces, settings.sampling.width
    )
    context = ProbeContext(adapter.root, found.stack, settings, coordinates, k, device)
    probes, without = build_probes(context)
    shard = tokens.vocabulary_shard(_head(adapter.root), coordinates)
    roster = enroll(found, probes, settings, coordinates, cuts_vocabulary=shard is not None)
    envelope = Envelope(identity, settings, k, roster.names, roster.roles)
    counters = Counters()
    for name, reason in _ALWAYS:
        counters.add(name, reason, 0)
    compare_settings(settings, identity, counters)
    taps = [tap for unit in roster.layer_units for tap in (*unit.taps, *unit.duplicates)]
    ring = SlotRing(_layout(taps, roster.probes, k, settings), settings.buffers.slots, device)
    plan = replace(_plan(adapter, envelope, device, roster.probes), vocabulary=shard)
    plan = _directed(plan, taps, roster.layer_units, envelope, counters)
    recorder = Recorder(plan, ring, Breaker(counters), counters)
    hooks = _install(adapter.root, adapter.gate, taps, recorder, roster.probes)
    _log.info(
        "infoplane: run %s, attempt %d, every %d steps, %d rows, %.1f MB of buffers\n%s",
        identity.run, identity.attempt, settings.interval, k, ring.nbytes / 1e6,
        capability_table(found, roster.probes, without, coordinates),
    )  # fmt: skip
    watch = CompileWatch(
        adapter.root, recorder, counters, partial(_leave_out, envelope, found, probes)
    )
    watch.start(is_compiled_outside=adapter.gate is not adapter.root)
    parts = Parts(
        adapter, envelope, roster.layer_units, ring, recorder, counters, hooks, announce,
        roster.probes, found.stack, watch,
    )  # fmt: skip
    parts.desk = plan.desk
    parts.control = _control(parts, means or Means(), commands)
    return parts, transport_factory(settings, identity)


def _leave_out(envelope: Envelope, found: Discovery, probes: Sequence[Probe]) -> None:
    """Take the probes out that cannot look into compiled code."""
    gone = [probe for probe in probes if probe.in_forward]
    if gone:
        names = ", ".join(probe.name for probe in gone)
        _log.warning("infoplane: the model is compiled, so it goes without: %s", names)
    envelope.forget({name for probe in gone for name in unit_names(probe, found.stack)})


def _control(parts: Parts, means: Means, commands: CommandSource | None) -> Setup | None:
    """Return what control is made of; None where it is off and nobody could wait for this rank."""
    envelope, store = parts.envelope, rendezvous.store()
    if not envelope.settings.control.enabled and store is None:
        return None
    return Setup(
        envelope.identity,
        envelope.settings,
        _means(parts.adapter, means, envelope.settings.control.checkpoint_dir),
        envelope.cadence,
        parts.counters,
        store,
        commands,
        parts.adapter.step() - 1,
    )


def _means(adapter: Adapter, given: Means, folder: str) -> Means:
    """Return what attach was told, and what the framework knows where it was told nothing."""
    checkpoint = given.checkpoint
    if checkpoint is None and folder and adapter.saves:
        checkpoint = partial(adapter.save_checkpoint, folder)
    return Means(tuple(given.optimizers) or tuple(adapter.optimizers()), checkpoint)


def _plan(
    adapter: Adapter, envelope: Envelope, device: torch.device, probes: tuple[Probe, ...]
) -> Plan:
    settings = envelope.settings
    rule = settings.sampling
    at = envelope.identity.coordinates
    return Plan(
        step=adapter.step,
        cadence=envelope.cadence,
        labels=settings.tokens.labels,
        sampling=RowSampling(rule.key_seed, at.dp, envelope.rows_per_step, at.sp, at.sp_size),
        projection=Projection(rule.projection_dim, rule.projection_seed),
        device=device,
        units_at=envelope.units_at,
        coordinates=at,
        targets=adapter.targets,
        sends_tokens=TOKENS in envelope.roles,
        probes=probes,
    )


def _directed(
    plan: Plan,
    taps: list[Tap],
    units: tuple[LayerUnit, ...],
    envelope: Envelope,
    counters: Counters,
) -> Plan:
    """Return `plan` with what the topic `config` may direct."""
    settings = envelope.settings
    fraction = settings.sampling.novel_fraction
    novelty = novelty_sampling(
        fraction, plan.sampling, plan.projection, taps, plan.coordinates, counters
    )
    envelope.novel_rows = novelty.num_novel if novelty else 0
    desk = None
    if settings.config.enabled:
        is_kafka = settings.transport == "kafka"
        source = ConfigSource(settings.kafka, envelope.identity.run) if is_kafka else None
        expected = Expected(envelope.sampling(), novelty.tap if novelty else "")
        desk = Desk(expected, settings.span, counters, source)
    names = tuple(tuple(tap.name for tap in unit.taps) for unit in units)
    return replace(plan, novelty=novelty, desk=desk, unit_taps=names)


def _layout(taps: list[Tap], probes: tuple[Probe, ...], rows: int, settings: Settings) -> Layout:
    layout = Layout()
    layout.add("keys", torch.int64, rows)
    tokens.add_regions(layout, rows)
    scalars.add_region(layout)
    dim = settings.sampling.projection_dim
    for tap in {tap.name: tap for tap in taps}.values():
        if tap.kind == "act":
            add_act_regions(layout, tap.name)
        elif tap.is_sharded or tap.kind == "rows":
            add_partial_regions(layout, tap.name, rows, dim)
        else:
            add_block_regions(layout, tap.name, rows, dim)
    for probe in probes:
        probe.reserve(layout)
    if settings.sampling.novel_fraction:
        layout.add(REGION, torch.float32, rows)
    return layout


def _install(
    root: nn.Module, gate: nn.Module, taps: list[Tap], recorder: Recorder, probes: tuple[Probe, ...]
) -> list[RemovableHandle]:
    for tap in {tap.name: tap for tap in taps}.values():
        recorder.taps.add(tap.module, (InputHook if tap.is_input else OutputHook)(recorder, tap))
    for probe in probes:
        for place in probe.places():
            hook = (ProbeInputHook if place.is_input else ProbeHook)(recorder, probe.name, place)
            (recorder.late if place.is_late else recorder.taps).add(place.module, hook)
    head = _head(root)
    if head is not None:
        recorder.taps.add(head, HeadHook(recorder))
    # torch looks for forward hooks after the forward, so one that the pre-hook hangs in is still called.
    recorder.gates.add(gate, LeaveHook(recorder))
    return [gate.register_forward_pre_hook(EnterHook(recorder), with_kwargs=True)]


def _head(root: nn.Module) -> nn.Module | None:
    """Return the module that computes the logits: the last one outside the blocks named like a head."""
    pattern = re.compile(tokens.HEAD_NAMES)
    named = [
        module
        for name, module in root.named_modules()
        if pattern.fullmatch(name.rsplit(".", maxsplit=1)[-1]) and hasattr(module, "weight")
    ]
    return named[-1] if named else None
