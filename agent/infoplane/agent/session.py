"""A session: one attached model, from its hooks to its publisher."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from torch.utils.hooks import RemovableHandle

from infoplane.agent import records
from infoplane.agent.anchors import Anchors, anchor_level
from infoplane.agent.compiled import CompileWatch
from infoplane.agent.control import Control
from infoplane.agent.control.control import Setup
from infoplane.agent.counters import Counters
from infoplane.agent.directives import Desk
from infoplane.agent.frameworks import Adapter
from infoplane.agent.governor import Governor
from infoplane.agent.parcels import Fill, UnitParcel
from infoplane.agent.probes import Probe
from infoplane.agent.publisher import Publisher
from infoplane.agent.recorder import Recorder
from infoplane.agent.records import Envelope
from infoplane.agent.rewards import RewardLog
from infoplane.agent.scalars import ScalarLog, ScalarValue
from infoplane.agent.slots import Loan, Slot, SlotRing
from infoplane.agent.taps import Stack
from infoplane.agent.transports import Outgoing, TransportFactory, skew
from infoplane.agent.undisturbed import Batch
from infoplane.agent.units import AGENT, SCALARS, TOKENS, LayerUnit
from infoplane.wire import infoplane_pb2 as pb

Announce = Callable[[int], Mapping[str, float]]
_log = logging.getLogger("infoplane.agent")


@dataclass(slots=True)
class Parts:
    """What a session is made of."""

    adapter: Adapter
    envelope: Envelope
    layer_units: tuple[LayerUnit, ...]
    ring: SlotRing
    recorder: Recorder
    counters: Counters
    hooks: Sequence[RemovableHandle]
    announce: Announce | None
    probes: tuple[Probe, ...]
    stack: Stack
    watch: CompileWatch
    control: Setup | None = None
    desk: Desk | None = None


@dataclass(slots=True)
class _Handover:
    """A finished step whose copy to the host may still be under way."""

    slot: Slot
    scalars: list[ScalarValue]
    time_ms: int


class Session:
    """Turns finished sampled steps into parcels; talks to the publisher."""

    def __init__(self, parts: Parts, factory: TransportFactory) -> None:
        settings = parts.envelope.settings
        self.scalars = ScalarLog(parts.counters, settings.scalars.delta, settings.span)
        self.parts = parts
        self._waiting: deque[_Handover] = deque()
        self._last_finished = -1
        self._last_boundary = 0.0
        self._is_detached = False
        self._has_failed = False
        self._has_warned = False
        self._publisher = Publisher(
            factory,
            parts.counters,
            beat=self._beat,
            farewell=self._farewell,
            heartbeat_s=settings.heartbeat_s,
            queue_bytes=settings.buffers.queue_bytes,
            exit_timeout_s=settings.exit_timeout_s,
        )
        self.rewards = RewardLog(
            parts.envelope, parts.counters, self._publisher.offer, self._event_step
        )
        governing = settings.governor
        cadence = parts.envelope.cadence
        self._governor = Governor(governing, cadence, parts.counters) if governing.enabled else None
        self._waited = 0.0  # in control, for other ranks: the agent's time, but no cost of sampling
        self._end_report: Callable[[], None] = lambda: None
        setup = parts.control
        self.control = Control(setup, self._publisher.offer) if setup else None
        self.anchors: Anchors | None = None

    def start(self) -> None:
        """Watch the boundaries and start the publisher's thread."""
        self.parts.adapter.listen(self.boundary, self.close, self.parts.watch.notice)
        if self.parts.envelope.settings.scalars.framework:
            self._end_report = self.parts.adapter.report(self._report)
        self._publisher.start()
        if self.control is not None:
            self.control.start()
        if self.parts.desk is not None:
            self.parts.desk.start()

    def detach(self) -> None:
        """Take the hooks out and restore the framework's object; idempotent."""
        self.parts.recorder.taps.disarm()
        self.parts.recorder.late.disarm()
        self.parts.recorder.gates.disarm()
        for hook in self.parts.hooks:
            hook.remove()
        if not self._is_detached:
            self.parts.watch.close()
            self._close_probes()
            self._end_report()
        self._is_detached = True
        if self.control is not None:
            self.control.close()
        if self.control is None or not self.control.needs_boundary:
            self.parts.adapter.unlisten()

    def _close_probes(self) -> None:
        for probe in self.parts.probes:
            try:
                probe.close()
            except Exception as error:  # noqa: BLE001 - training goes on
                self._failed(error)

    def close(self) -> None:
        """Detach, send what is left and say goodbye, within the exit timeout; idempotent."""
        self.detach()
        try:
            self._hand_over(wait=True)
            if self.anchors is not None:
                self.anchors.hand_over(wait=True)
            self.rewards.close()
        except Exception as error:  # noqa: BLE001 - training goes on
            self._failed(error)
        if self.parts.desk is not None:
            self.parts.desk.close()
        self._publisher.close()

    def add_anchors(self, batch: Batch, ids: Sequence[int] | None, every_windows: int) -> None:
        """Run `batch` through the model from the next step on that is due."""
        envelope = self.parts.envelope
        if self.anchors is not None or envelope.identity.coordinates.pp_size > 1:
            reason = "they are set already" if self.anchors else "a pipeline has no plain forward"
            _log.error("infoplane: no anchors: %s", reason)
            return
        level = anchor_level(envelope.settings.sampling, max(every_windows, 1))
        self.anchors = Anchors(
            self.parts.adapter.root, batch, ids, level,
            envelope=envelope, units=self.parts.layer_units, counters=self.parts.counters,
            offer=self._publisher.offer,
        )  # fmt: skip
        _log.warning(
            "infoplane: an extra forward pass of the anchors follows every %d-th step. It is a collective under ZeRO-3 "
            "and tensor parallelism: every rank must have said so before the same step",
            self.anchors.interval,
        )

    @property
    def scalar_step(self) -> int:
        """Step that a value logged now belongs to: that of the last training forward."""
        return max(self.parts.recorder.step, 0)

    def _report(self, values: Mapping[str, Any]) -> None:
        """Take scalars that the framework reports."""
        self.scalars.add(self.scalar_step, values)

    def _event_step(self) -> int:
        """Return the step of an event observed now; before the first forward, that of the step in progress."""
        step = self.parts.recorder.step
        return step if step >= 0 else max(self.parts.adapter.step(), 0)

    # ---------------------------------------------------------------- training thread

    def boundary(self, step: int) -> None:
        """End optimizer step `step`; never raises. About 5 us on unsampled steps.

        It never waits but for control, where that is on: docs/control.md.
        """
        if self._is_detached:
            self._leave(step)
            return
        start = perf_counter()
        try:
            self._finish(step, start)
        except Exception as error:  # noqa: BLE001 - training goes on
            self._failed(error)
        if self.anchors is not None:
            start += self.anchors.boundary(step)  # the user's own extra forward
        if self.control is not None and self.control.needs_boundary:
            begun = perf_counter()
            saving = self.control.boundary(step)  # a checkpoint is not the agent's own time
            start += saving
            self._waited += perf_counter() - begun - saving
        self.parts.recorder.seconds += perf_counter() - start

    def _leave(self, step: int) -> None:
        """End the step after `detach`: the other ranks obey a command now that was under way then."""
        if self.control is not None:
            self.control.boundary(step)
        if self.control is None or not self.control.needs_boundary:
            self.parts.adapter.unlisten()

    def _finish(self, step: int, now: float) -> None:
        recorder, counters = self.parts.recorder, self.parts.counters
        if recorder.step != step:
            self._begin_unseen(step, now)
        self._last_boundary = now
        self.parts.envelope.first_step = recorder.first_step
        slot = recorder.take()
        counters.add("steps")
        counters.add("step_seconds", value=now - recorder.started)
        self._last_finished = step
        if slot is not None:
            counters.add("sampled_steps")
            counters.add("hook_seconds", value=recorder.seconds)
            self._govern(step, recorder.seconds - self._waited, now)
            recorder.seconds = self._waited = 0.0
            self._collect(step, slot)
        elif self.parts.envelope.cadence.is_missed(step) and not recorder.is_paused:
            counters.add("records_dropped", "budget", self.parts.envelope.units_at(step))
        self._hand_over()
        self.rewards.hand_over()

    def _govern(self, step: int, thread_seconds: float, now: float) -> None:
        """Let the governor judge what sampling `step` cost."""
        if self._governor is not None:
            self._governor.sampled(step, thread_seconds, self._governor.totals(now))

    def _begin_unseen(self, step: int, now: float) -> None:
        """Enter a step whose forward no hook saw: scalars and the agent's own unit go on."""
        recorder = self.parts.recorder
        recorder.begin(step)
        recorder.started = self._last_boundary or now
        if not self._has_warned:
            self._has_warned = True
            _log.error(
                "infoplane: no forward of the model was seen in step %d, so nothing is tapped. If it is compiled, "
                "call attach() with what torch.compile returned.", step,
            )  # fmt: skip

    def _collect(self, step: int, slot: Slot) -> None:
        """Complete `slot` with the scalars, and start its copy to the host."""
        try:
            values = self.scalars.move_to(slot) + self._announced(step) + self._clock_skew(step)
            slot.start_copy()
            self._waiting.append(_Handover(slot, values, time.time_ns() // 1_000_000))
        except Exception:
            self.parts.ring.put(slot)
            owed = self.parts.envelope.units_at(step)
            self.parts.counters.add("records_dropped", "boundary", owed)
            raise

    def _clock_skew(self, step: int) -> list[ScalarValue]:
        """Return the skew against the broker as a scalar, whose mean over ranks makes sense; empty if not known."""
        if self.parts.envelope.settings.transport != "kafka":
            return []
        found = self.parts.counters.snapshot().get((skew.NAME, ""))
        return [] if found is None else [ScalarValue(skew.NAME, step, found)]

    def _announced(self, step: int) -> list[ScalarValue]:
        if self.parts.announce is None:
            return []
        try:
            plan = self.parts.announce(step)
            return [ScalarValue(n, step, float(v), is_announced=True) for n, v in plan.items()]
        except Exception as error:  # noqa: BLE001 - the user's function; training goes on
            self._failed(error)
            return []

    def _hand_over(self, *, wait: bool = False) -> None:
        """Offer every step whose copy has arrived; `wait` for it only at the end of the run."""
        while self._waiting:
            first = self._waiting[0]
            if wait:
                first.slot.wait()
            elif not first.slot.is_copied():
                return
            self._offer(self._waiting.popleft())

    def _offer(self, done: _Handover) -> None:
        fills = self._fills(done)
        slot, envelope = done.slot, self.parts.envelope
        loan = Loan(self.parts.ring, slot, len(fills))
        step, share = slot.capture.step, slot.nbytes // len(fills)
        silent = envelope.due(step) - {unit for unit, _ in fills}
        if silent:
            # Readers expect these too: a gap that nobody counts would look like a loss on the way.
            self.parts.counters.add("records_dropped", "not_captured", len(silent))
        for unit, fill in fills:
            seq = envelope.next_seq(unit)
            parcel = UnitParcel(envelope, unit, seq, step, done.time_ms, share, fill, loan)
            self._publisher.offer(parcel)

    def _fills(self, done: _Handover) -> list[tuple[str, Fill]]:
        """Return (unit, what fills its record's body) of every unit that has something to say."""
        envelope, slot = self.parts.envelope, done.slot
        fills: list[tuple[str, Fill]] = []
        for unit in self.parts.layer_units:
            if any(tap.name in slot.capture.widths for tap in unit.taps):
                fills.append((unit.name, partial(_fill_layers, envelope, unit, slot)))
        for probe in self.parts.probes:
            name = self.parts.stack.unit(probe.name)
            # A probe may have left in the middle of its first step, when something was compiled.
            if slot.capture.notes.get(probe.name) and name in envelope.roles:
                fills.append((name, partial(_fill_probe, envelope, probe, slot)))
        if slot.capture.k and TOKENS in envelope.roles:
            fills.append((TOKENS, partial(_fill_tokens, envelope, slot)))
        fills.append((SCALARS, partial(_fill_scalars, done.scalars, slot)))
        fills.append((AGENT, partial(_fill_agent, self.parts.counters)))
        return fills

    def _failed(self, error: Exception) -> None:
        self.parts.counters.add("boundary_errors", type(error).__name__)
        if not self._has_failed:
            self._has_failed = True
            _log.warning("infoplane: error at a step boundary, counted from now on: %r", error)

    # ---------------------------------------------------------------- publisher thread

    def _beat(self) -> list[Outgoing]:
        body = pb.Heartbeat(
            finished_step=max(self._last_finished, 0), any_finished=self._last_finished >= 0
        )
        return self._to_all(lambda record: record.heartbeat.CopyFrom(body))

    def _farewell(self) -> list[Outgoing]:
        body = pb.Bye(last_step=max(self._last_finished, 0), any_finished=self._last_finished >= 0)
        return self._to_all(lambda record: record.bye.CopyFrom(body))

    def _to_all(self, fill: Fill) -> list[Outgoing]:
        """Return one message per unit; none before the first boundary, as there is no first step to state."""
        envelope = self.parts.envelope
        if envelope.first_step < 0:
            return []
        now_ms = time.time_ns() // 1_000_000
        step = max(self._last_finished, envelope.first_step)
        messages = []
        for unit in envelope.roles:
            record = envelope.record(unit, envelope.next_seq(unit), step, now_ms)
            fill(record)
            messages.append(envelope.outgoing(record))
        return messages


def _fill_layers(envelope: Envelope, unit: LayerUnit, slot: Slot, record: pb.Record) -> None:
    record.sketch.CopyFrom(records.layers_body(envelope, unit, slot))


def _fill_probe(envelope: Envelope, probe: Probe, slot: Slot, record: pb.Record) -> None:
    record.sketch.CopyFrom(records.probe_body(envelope, probe, slot))


def _fill_tokens(envelope: Envelope, slot: Slot, record: pb.Record) -> None:
    record.tokens.CopyFrom(records.tokens_body(envelope, slot))


def _fill_scalars(values: list[ScalarValue], slot: Slot, record: pb.Record) -> None:
    record.scalars.CopyFrom(records.scalars_body(values, slot))


def _fill_agent(counters: Counters, record: pb.Record) -> None:
    record.agent.CopyFrom(records.agent_body(counters.snapshot()))
