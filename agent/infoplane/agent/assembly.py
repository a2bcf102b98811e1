"""Puts a session's parts together: identity, taps, buffers and hooks."""

from __future__ import annotations

import logging
import re
from functools import partial
from typing import Final

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from infoplane.agent import rendezvous, scalars, tokens
from infoplane.agent.breaker import Breaker
from infoplane.agent.control import CommandSource, Means
from infoplane.agent.control.control import Setup
from infoplane.agent.counters import Counters
from infoplane.agent.frameworks import Adapter
from infoplane.agent.hooks import EnterHook, HeadHook, InputHook, LeaveHook, OutputHook
from infoplane.agent.identity import resolve
from infoplane.agent.layout import Layout
from infoplane.agent.outlet import transport_factory
from infoplane.agent.projection import Projection
from infoplane.agent.recorder import Plan, Recorder
from infoplane.agent.records import Envelope
from infoplane.agent.sampling import RowSampling, rows_per_step
from infoplane.agent.session import Announce, Parts
from infoplane.agent.settings import Settings
from infoplane.agent.sketch import add_act_regions, add_block_regions
from infoplane.agent.slots import SlotRing
from infoplane.agent.taps import Discovery, Tap, discover
from infoplane.agent.transports import TransportFactory
from infoplane.agent.units import AGENT, SCALARS, TOKENS, group
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
    identity = resolve(settings, adapter.coordinates())
    found = discover(adapter.root, settings.taps)
    layer_units = group(found, settings.units.layers)
    k = rows_per_step(
        settings.sampling.rows_per_window, identity.sender_count, settings.sampling.width
    )
    names = (*(unit.name for unit in layer_units), TOKENS, SCALARS, AGENT)
    envelope = Envelope(identity, settings, k, names)
    counters = Counters()
    for name, reason in _ALWAYS:
        counters.add(name, reason, 0)
    compare_settings(settings, identity, counters)
    device = next((p.device for p in adapter.root.parameters()), torch.device("cpu"))
    ring = SlotRing(_layout(found, k, settings), settings.buffers.slots, device)
    recorder = Recorder(_plan(adapter, envelope, device), ring, Breaker(counters), counters)
    hooks = _install(adapter.root, found.taps, recorder)
    _log.info(
        "infoplane: run %s, attempt %d, every %d steps, %d rows, %.1f MB of buffers\n%s",
        identity.run, identity.attempt, settings.interval, k, ring.nbytes / 1e6, found.table(),
    )  # fmt: skip
    parts = Parts(adapter, envelope, layer_units, ring, recorder, counters, hooks, announce)
    parts.control = _control(parts, means or Means(), commands)
    return parts, transport_factory(settings, identity)


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


def _plan(adapter: Adapter, envelope: Envelope, device: torch.device) -> Plan:
    settings = envelope.settings
    rule = settings.sampling
    dp_rank = envelope.identity.coordinates.dp
    return Plan(
        step=adapter.step,
        cadence=envelope.cadence,
        labels=settings.tokens.labels,
        sampling=RowSampling(rule.key_seed, dp_rank, envelope.rows_per_step),
        projection=Projection(rule.projection_dim, rule.projection_seed),
        device=device,
        num_units=len(envelope.units),
    )


def _layout(found: Discovery, rows: int, settings: Settings) -> Layout:
    layout = Layout()
    layout.add("keys", torch.int64, rows)
    tokens.add_regions(layout, rows)
    scalars.add_region(layout)
    for tap in found.taps:
        if tap.kind == "act":
            add_act_regions(layout, tap.name)
        else:
            add_block_regions(layout, tap.name, rows, settings.sampling.projection_dim)
    return layout


def _install(root: nn.Module, taps: list[Tap], recorder: Recorder) -> list[RemovableHandle]:
    for tap in taps:
        recorder.taps.add(tap.module, (InputHook if tap.is_input else OutputHook)(recorder, tap))
    head = _head(root)
    if head is not None:
        recorder.taps.add(head, HeadHook(recorder))
    # torch looks for forward hooks after the forward, so one that the pre-hook hangs in is still called.
    recorder.taps.add(root, LeaveHook(recorder))
    return [root.register_forward_pre_hook(EnterHook(recorder), with_kwargs=True)]


def _head(root: nn.Module) -> nn.Module | None:
    """Return the module that computes the logits: the last one outside the blocks named like a head."""
    pattern = re.compile(tokens.HEAD_NAMES)
    named = [
        module
        for name, module in root.named_modules()
        if pattern.fullmatch(name.rsplit(".", maxsplit=1)[-1]) and hasattr(module, "weight")
    ]
    return named[-1] if named else None
