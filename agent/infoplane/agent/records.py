"""From captured arrays to framed records. Runs in the publisher thread: numpy and protobuf, never torch."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from infoplane.agent import projection, sampling
from infoplane.agent.cadence import Cadence
from infoplane.agent.identity import Identity
from infoplane.agent.novelty import NOTE, REGION
from infoplane.agent.packing import pack_rows as pack_rows
from infoplane.agent.probes import Probe
from infoplane.agent.roles import Role
from infoplane.agent.scalars import ScalarValue
from infoplane.agent.settings import Settings
from infoplane.agent.sketch import NORM_FIELDS
from infoplane.agent.slots import Slot
from infoplane.agent.taps import Tap
from infoplane.agent.tokens import columns
from infoplane.agent.transports.base import Outgoing
from infoplane.agent.units import ANCHOR, TOKENS, LayerUnit
from infoplane.wire import encode, from_tensor, to_tensor
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.histograms import to_histogram
from infoplane.wire.topics import RECORDS, Names, record_key


@dataclass(slots=True)
class Envelope:
    """What all records of one rank share.

    Attributes:
        units: every unit of the run that all windows have, over all ranks.
        roles: the units that this rank sends.
        first_step: first step this rank took part in; -1 until it did.
        cadence: which steps this rank samples.
        novel_rows: c, rows of a step that may be chosen by novelty.
    """

    identity: Identity
    settings: Settings
    rows_per_step: int
    units: tuple[str, ...]
    roles: Mapping[str, Role] = field(default_factory=dict)
    first_step: int = -1
    novel_rows: int = 0
    cadence: Cadence = field(init=False)
    _seq: dict[str, Iterator[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin at the base level."""
        self.cadence = Cadence(self.settings.sampling.base_level)

    def due(self, step: int) -> set[str]:
        """Return the units that this rank owes a record for a sampled `step`; anchors have passes of their own."""
        return {
            name
            for name, role in self.roles.items()
            if step % (1 << role.level) == 0 and name != ANCHOR
        }

    def units_at(self, step: int) -> int:
        """Return how many records this rank owes for a sampled `step`."""
        return len(self.due(step))

    def forget(self, names: Collection[str]) -> None:
        """Take units out that this run turns out not to have; on all ranks alike, before their first record."""
        self.units = tuple(name for name in self.units if name not in names)
        # Replaced as a whole: the publisher's thread iterates over it.
        self.roles = {name: role for name, role in self.roles.items() if name not in names}

    def next_seq(self, unit: str) -> int:
        """Return the next number of `unit`; taken when a record is made, so that dropped ones leave gaps."""
        return next(self._seq.setdefault(unit, itertools.count()))

    def record(self, unit: str, seq: int, step: int, time_ms: int) -> pb.Record:
        """Return a record without a body."""
        rule = self.settings.sampling
        first_step = max(self.first_step, 0)
        own = self.roles[unit]
        level, level_since = self.cadence.at(step)
        if own.level > level:
            level, level_since = own.level, 0
        return pb.Record(
            run=self.identity.run,
            attempt=self.identity.attempt,
            unit=unit,
            seq=seq,
            step=step,
            coordinates=self.identity.coordinates.to_wire(),
            sender=pb.Sender(
                index=own.index,
                count=own.count,
                first_step=first_step,
                level=level,
                level_since=max(level_since, first_step),
                unit_level=own.level,
            ),
            rule=pb.WindowRule(base_level=rule.base_level, width=rule.width),
            units=self.units,
            time_ms=time_ms,
        )

    def sampling(self) -> pb.Sampling:
        """Return the identity of projection and row sample."""
        rule = self.settings.sampling
        return pb.Sampling(
            projection_version=projection.VERSION,
            projection_seed=rule.projection_seed,
            projection_dim=rule.projection_dim,
            key_version=sampling.VERSION,
            key_seed=rule.key_seed,
            rows_per_step=self.rows_per_step,
            rows_per_window=rule.rows_per_window,
            novel_rows=self.novel_rows,
        )

    def outgoing(self, record: pb.Record) -> Outgoing:
        """Return `record` framed and addressed."""
        topic = Names(self.settings.kafka.topic_prefix).of(RECORDS)
        key = record_key(record.run, record.unit)
        return Outgoing(topic, key, encode(record), record.time_ms)


def layers_body(envelope: Envelope, unit: LayerUnit, slot: Slot) -> pb.Sketch:
    """Return the sketches of the taps of `unit` that fired."""
    found = slot.capture
    at = envelope.identity.coordinates
    # Ranks of one tensor-parallel group have the same rows: they count once.
    total = found.num_rows if at.tp == 0 else 0
    body = pb.Sketch(sampling=envelope.sampling(), rows_total=total, row_keys=_row_keys(slot))
    if NOTE in found.notes:
        body.inclusion.CopyFrom(_inclusion(slot))
        body.reference = found.notes[NOTE]
    marked = [(tap, True) for tap in unit.duplicates] + [(tap, False) for tap in unit.taps]
    body.taps.extend(
        _tap(tap, slot, is_duplicate, at.tp_size)
        for tap, is_duplicate in marked
        if tap.name in found.widths
    )
    return body


def probe_body(envelope: Envelope, probe: Probe, slot: Slot) -> pb.Sketch:
    """Return what `probe` captured."""
    body = pb.Sketch(sampling=envelope.sampling())
    probe.fill(body, slot)
    if NOTE in slot.capture.notes and body.row_keys == _row_keys(slot):
        # Probes are handed the uniform rows only; beyond them, their regions hold nothing of this step.
        _cut_rows(body, envelope.rows_per_step - envelope.novel_rows)
    return body


def tokens_body(envelope: Envelope, slot: Slot) -> pb.Tokens:
    """Return the token columns of the sampled rows."""
    settings, at = envelope.settings, envelope.identity.coordinates
    # Ranks with logits of their own send the same rows, which count once.
    parts = envelope.roles[TOKENS].count // at.pieces
    body = pb.Tokens(
        sampling=envelope.sampling(),
        rows_total=slot.capture.num_rows if at.tp == 0 else 0,
        row_keys=_row_keys(slot),
        token_mode=settings.tokens.mode,
        vocabulary=slot.capture.vocabulary,
        parts=parts if parts > 1 else 0,
    )
    if NOTE in slot.capture.notes:
        body.inclusion.CopyFrom(_inclusion(slot))
    found = columns(slot, settings.tokens.mode, settings.sampling.key_seed)
    body.columns.extend(pb.Column(name=n, values=to_tensor(v)) for n, v in found.items())
    return body


def agent_body(totals: Mapping[tuple[str, str], float]) -> pb.AgentStats:
    """Return running totals of the agent by (name, reason)."""
    return pb.AgentStats(
        counters=[pb.Counter(name=n, reason=r, value=v) for (n, r), v in totals.items()]
    )


def scalars_body(values: Sequence[ScalarValue], slot: Slot) -> pb.Scalars:
    """Return the scalars since the last sampled step."""
    body = pb.Scalars()
    for scalar in values:
        held = scalar.value if scalar.place < 0 else float(slot.host["scalars"][scalar.place])
        body.values.add(
            name=scalar.name, step=scalar.step, value=held, announced=scalar.is_announced
        )
    return body


def _row_keys(slot: Slot) -> pb.Tensor:
    return to_tensor(slot.host["keys"][: slot.capture.k].astype(np.uint64))


def _cut_rows(body: pb.Sketch, count: int) -> None:
    """Keep the first `count` rows."""
    tensors = [body.row_keys]
    for tap in body.taps:
        tensors += [
            getattr(tap.rows, field.name)
            for field, _ in tap.rows.ListFields()
            if field.message_type
        ]
    for tensor in tensors:
        tensor.CopyFrom(to_tensor(from_tensor(tensor)[:count]))


def _inclusion(slot: Slot) -> pb.Tensor:
    return to_tensor(slot.host[REGION][: slot.capture.k])


def _tap(tap: Tap, slot: Slot, is_duplicate: bool, tp_size: int) -> pb.TapSketch:
    body = pb.TapSketch(tap=tap.name, duplicate=is_duplicate, width=slot.capture.widths[tap.name])
    if tap.kind == "act":
        body.elements.CopyFrom(_histogram(slot.host[f"{tap.name}:elements"], is_signed=True))
        return body
    if tap.is_sharded:
        body.rows.parts = tp_size
        body.rows.partial.CopyFrom(to_tensor(slot.host[f"{tap.name}:rows"][: slot.capture.k]))
        return body
    if tap.kind == "rows" or is_duplicate:  # a duplicate is there for pairs, which join rows
        body.rows.CopyFrom(pack_rows(slot.host[f"{tap.name}:rows"][: slot.capture.k]))
        return body
    norms = dict(zip(NORM_FIELDS, slot.host[f"{tap.name}:norms"].tolist(), strict=True))
    norms["nonfinite"] = int(norms["nonfinite"])
    outer = slot.host[f"{tap.name}:outer"]
    body.moments.n = norms["n"]
    body.moments.total.CopyFrom(to_tensor(slot.host[f"{tap.name}:total"]))
    body.moments.outer.CopyFrom(to_tensor(outer[_upper_triangle(outer.shape[0])]))
    body.norms.CopyFrom(pb.Norms(**norms))
    counts = slot.host[f"{tap.name}:norm_counts"]
    body.norm_histogram.CopyFrom(_histogram(counts, is_signed=False))
    body.rows.CopyFrom(pack_rows(slot.host[f"{tap.name}:rows"][: slot.capture.k]))
    return body


@cache
def _upper_triangle(size: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    return np.triu_indices(size)


def _histogram(counts: npt.NDArray[Any], *, is_signed: bool) -> pb.Histogram:
    """Return the wire form; the last bin is that of non-finite values."""
    return to_histogram(counts[:-1], int(counts[-1]), is_signed=is_signed)
