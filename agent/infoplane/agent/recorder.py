"""The recorder: what happens inside the forward pass of a sampled micro-batch.

It opens on the first training forward of a sampled step, when a slot is free, and closes at its
end. While it is closed, no tap has a hook in the model. Recomputation during the backward pass
(activation checkpointing) finds it closed; a backward inside the forward is told apart by torch's
current graph task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import nn

from infoplane.agent import tokens
from infoplane.agent.batch import Batch, read_batch
from infoplane.agent.breaker import Breaker
from infoplane.agent.cadence import Cadence
from infoplane.agent.counters import Counters
from infoplane.agent.directives import Desk, Directive, taps_to_leave_out
from infoplane.agent.guard import Guard, in_backward
from infoplane.agent.hooks import TapHooks
from infoplane.agent.identity import Coordinates
from infoplane.agent.novelty import NOTE, REGION, NoveltySampling
from infoplane.agent.outputs import find_logits, first_float, sequence_length
from infoplane.agent.pending import Pending
from infoplane.agent.probes import Probe, Scene
from infoplane.agent.probes.base import Function
from infoplane.agent.projection import Projection
from infoplane.agent.sampling import RowSampling
from infoplane.agent.sketch import sketch_partial
from infoplane.agent.slots import Capture, Slot, SlotRing
from infoplane.agent.taps import Tap

_log = logging.getLogger("infoplane.agent")


@dataclass(frozen=True, slots=True)
class Plan:
    """What the recorder needs to know.

    Attributes:
        step: returns the number of the step in progress.
        cadence: says which steps are sampled.
        labels: setting tokens.labels.
        device: where activations are.
        units_at: step -> records that this rank owes for it.
        coordinates: of this rank.
        targets: returns labels that do not pass through the model.
        sends_tokens: whether the tokens are this rank's to send.
        probes: what is captured besides.
        novelty: chooses some of the rows by novelty; None: all go by key.
        desk: directives that arrived; None: none are read.
        unit_taps: names of the own taps of every unit.
        vocabulary: this rank's columns of the logits, None for all.
    """

    step: Callable[[], int]
    cadence: Cadence
    labels: str
    sampling: RowSampling
    projection: Projection
    device: torch.device
    units_at: Callable[[int], int]
    coordinates: Coordinates
    targets: Callable[[], torch.Tensor | None]
    sends_tokens: bool
    probes: tuple[Probe, ...] = ()
    novelty: NoveltySampling | None = None
    desk: Desk | None = None
    unit_taps: tuple[tuple[str, ...], ...] = ()
    vocabulary: tokens.VocabularyShard | None = None


class Recorder:
    """Listens to the hooks and writes sketches into a slot.

    Attributes:
        taps: the hooks to hang in while it is open.
        late: the hooks of probes that stay until the step is over.
        gates: the hook on the model's own output.
        is_entered: a compiled model runs, and it was entered outside of it.
        at_first: called once, before the first sampled forward.
        probe_in_forward: probes may hang hooks into the model; not so once it is compiled.
        is_open: a sampled micro-batch is running.
        is_paused: nothing is sampled until the user resumes.
        step: step of the last training forward, -1 before the first.
        first_step: the first of them, -1 before.
        started: perf_counter when that step's first forward began, in seconds.
        seconds: time spent on the training thread in sampled hooks.
    """

    def __init__(self, plan: Plan, ring: SlotRing, breaker: Breaker, counters: Counters) -> None:
        self.taps = TapHooks()
        self.late = TapHooks()
        self.gates = TapHooks()
        self.is_entered = False
        self.probe_in_forward = True
        self.at_first: Callable[[], None] | None = None
        self.is_open = False
        self.is_paused = False
        self.step = -1
        self.first_step = -1
        self.started = 0.0
        self.seconds = 0.0
        self.device_type = plan.device.type
        self._plan = plan
        self._ring = ring
        self._breaker = breaker
        self._counters = counters
        self._slot: Slot | None = None
        self._pending = Pending(self._forget_taps)
        self._index: torch.Tensor | None = None
        self._batch: Batch | None = None
        self._logits: torch.Tensor | None = None
        self._scene: Scene | None = None
        self._active: tuple[Probe, ...] = ()
        self._left_out: frozenset[str] = frozenset()

    # ---------------------------------------------------------------- called by hooks

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Begin a forward pass; opens on micro-batch 0 of a sampled step."""
        if torch.compiler.is_compiling() or in_backward():
            return
        self._shut()
        step = self._plan.step()
        if step == self.step:
            return
        self.begin(step)
        if self._slot is None or self._breaker.is_open:
            return
        with self._guarded("tokens", is_timed=False):
            self._batch = self._read_batch(module, args, kwargs)
        self._open(self._slot)
        self.seconds += perf_counter() - self.started

    def _read_batch(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Batch | None:
        targets = self._plan.targets()
        if targets is not None and targets.ndim == 2:
            return Batch(targets, targets, self._plan.labels == "shifted")
        return read_batch(module, args, kwargs, self._plan.labels)

    def _open(self, slot: Slot) -> None:
        if self.at_first is not None:
            self.at_first()
            self.at_first = None
        step = slot.capture.step
        self._active = tuple(
            probe for probe in self._plan.probes
            if step % (1 << probe.level) == 0 and (self.probe_in_forward or not probe.in_forward)
        )  # fmt: skip
        rows = partial(self._uniform_rows, slot)
        self._scene = Scene(step, slot, self._plan.projection, rows, self._guarded, self._batch)
        for probe in self._active:
            self._run(probe.name, probe.begin, self._scene, is_timed=False)
        self.taps.arm()
        self.gates.arm()
        if self._active and self.probe_in_forward:
            self.late.arm()
        self.is_open = True

    def _shut(self) -> None:
        self.is_open = False
        self.taps.disarm()
        self.gates.disarm()
        if self._scene is not None:
            self._scene.is_forward = False

    def fire(self, tap: Tap, value: Any) -> None:
        """Sketch what `tap` saw, once per sampled micro-batch."""
        if torch.compiler.is_compiling() or in_backward():
            return
        slot = self._slot
        if slot is None or tap.name in slot.capture.widths or tap.name in self._breaker.off:
            return
        if slot.capture.step % (1 << tap.level):
            return
        if tap.name in self._left_out:
            return
        with self._guarded(tap.name):
            self._sketch(tap, first_float(value), slot)

    def probe(
        self, name: str, function: Function, module: nn.Module, args: Any, output: Any
    ) -> None:
        """Let a probe look at a module."""
        scene = self._scene
        if scene is None or all(probe.name != name for probe in self._active):
            return
        recomputes = in_backward()
        if recomputes and scene.is_forward:
            return
        self._run(name, function, replace(scene, is_recompute=recomputes), module, args, output)

    def _run(
        self, name: str, function: Callable[..., None], *arguments: Any, is_timed: bool = True
    ) -> None:
        """Call a function of a probe; not timed where the caller's own time is taken anyway."""
        if name not in self._breaker.off:
            with self._guarded(name, is_timed=is_timed):
                function(*arguments)

    def logits(self, output: Any) -> None:
        """Keep the head's output until the end of the forward."""
        if torch.compiler.is_compiling() or in_backward():
            return
        if isinstance(output, torch.Tensor):
            self._logits = output.detach()

    def leave(self, output: Any) -> None:
        """End the forward pass: the tokens of the sampled rows are known now."""
        if torch.compiler.is_compiling() or in_backward():
            return
        self._check_reach()
        self._write_pending()
        self._run("tokens", self._write_tokens, output)
        for probe in self._active:
            self._run(probe.name, probe.end, self._scene, output)
        self._shut()
        self._batch = self._logits = None

    def _check_reach(self) -> None:
        """Refuse a model whose compiled code has no taps in it: torch ignores hooks that come after its first call."""
        if self.taps.is_fixed and self.taps and self._slot and not self._slot.capture.widths:
            self.is_paused = True
            self._counters.add("taps_unreachable")
            _log.error(
                "infoplane: nothing is tapped: the model had run compiled before attach() was called, and "
                "torch.compile ignores hooks that come later. Call attach() before the first forward of the "
                "compiled model."
            )

    # ---------------------------------------------------------------- called at boundaries

    def begin(self, step: int) -> None:
        """Enter `step`, and take a slot if it is sampled."""
        self.started = perf_counter()
        self.step = step
        if self.first_step < 0:
            self.first_step = step
        self._drop()
        directive = self._plan.desk.enter(step) if self._plan.desk is not None else None
        if directive is not None:
            self._obey(directive)
        if self.is_paused or not self._plan.cadence.samples(step):
            return
        self._slot = self._ring.take()
        if self._slot is None:
            self._counters.add("records_dropped", "no_slot", self._plan.units_at(step))
        else:
            self._slot.capture = Capture(step, 0, 0, {}, [], 0)

    def _obey(self, directive: Directive) -> None:
        self._left_out = taps_to_leave_out(directive.taps_off, self._plan.unit_taps)
        if self._plan.novelty is not None:
            self._plan.novelty.adopt(directive.reference)

    def take(self) -> Slot | None:
        """Return the slot of the step in progress, which is over; None if it was not sampled."""
        self._write_pending()  # of a forward that did not come to its end
        slot, self._slot = self._slot, None
        self._shut()
        self.late.disarm()
        if self._scene is not None:
            for probe in self._active:
                self._run(probe.name, probe.finish, self._scene, is_timed=False)
        self._scene, self._active = None, ()
        self._index = self._batch = self._logits = None
        return slot

    def _drop(self) -> None:
        slot = self.take()
        if slot is not None:
            self._counters.add(
                "records_dropped", "no_boundary", self._plan.units_at(slot.capture.step)
            )
            self._ring.put(slot)

    # ---------------------------------------------------------------- on sampled micro-batches

    def _sketch(self, tap: Tap, value: torch.Tensor, slot: Slot) -> None:
        at = self._plan.coordinates
        rows = value.detach().reshape(-1, value.shape[-1])
        own = rows.shape[1]
        width = own * at.tp_size if tap.is_sharded else own
        index = self._rows(slot, rows.shape[0], rows.device, sequence_length(value), tap, rows)
        if tap.kind == "act":
            # A histogram has no weights for its rows.
            self._pending.add_act(tap.name, rows, index[: self._num_uniform], slot.device, width)
        else:
            matrix = self._plan.projection.matrix(width, rows.device)
            if tap.is_sharded:
                first = at.tp * own
                sketch_partial(rows, matrix[first : first + own], index, slot.device, tap.name)
            elif tap.kind == "rows":
                sketch_partial(rows, matrix, index, slot.device, tap.name)
            else:
                self._pending.add_block(tap.name, rows, matrix, index, slot.device)
        slot.capture.widths[tap.name] = width

    def _write_pending(self) -> None:
        """Write the sketches that wait; taps that are still waiting then have nothing to send."""
        slot, index = self._slot, self._index
        if self._pending and slot is not None and index is not None:
            self._run("acts", self._pending.write_acts, slot.device)
            self._run("blocks", self._pending.write_blocks, index, slot.device)
        self._forget_taps(self._pending.taps)
        self._pending.clear()

    def _forget_taps(self, names: Sequence[str]) -> None:
        """Let taps have nothing to send in this step: their sketches could not be written."""
        if self._slot is not None:
            for name in names:
                self._slot.capture.widths.pop(name, None)

    @property
    def _num_uniform(self) -> int | None:
        """Return how many of the sampled rows, in order of keys, are a uniform sample; None: all."""
        return self._plan.novelty.num_uniform if self._plan.novelty is not None else None

    def _uniform_rows(
        self, slot: Slot, num_rows: int, device: torch.device, length: int = 0
    ) -> torch.Tensor:
        """Return the positions of a uniform sample: those of `_rows`, without most of what is in it for its novelty."""
        return self._rows(slot, num_rows, device, length)[: self._num_uniform]

    def _rows(
        self,
        slot: Slot,
        num_rows: int,
        device: torch.device,
        length: int = 0,
        tap: Tap | None = None,
        values: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the sampled positions, ascending by key; the first caller of a step says how many rows there are.

        `tap` and its `values` (N, d): rows may be chosen by novelty if it is the scoring tap.
        """
        if self._index is None:
            known = self._batch.length if self._batch is not None else length
            keys, self._index = self._pick(slot, num_rows, device, known, tap, values)
            slot.capture.num_rows, slot.capture.k = num_rows, keys.shape[0]
            slot.device["keys"][: keys.shape[0]].copy_(keys)
        if num_rows != slot.capture.num_rows:
            raise ValueError(f"{num_rows} rows where other taps have {slot.capture.num_rows}")
        return self._index

    def _pick(
        self,
        slot: Slot,
        num_rows: int,
        device: torch.device,
        length: int,
        tap: Tap | None,
        values: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (keys, positions) of the step's sample."""
        step, novelty = slot.capture.step, self._plan.novelty
        if novelty is None:
            return self._plan.sampling.pick(step, 0, num_rows, device, length)
        is_scored = tap is not None and tap.name == novelty.tap
        choice = novelty.pick(step, num_rows, device, length, values if is_scored else None)
        slot.device[REGION][: choice.keys.shape[0]].copy_(choice.inclusion)
        slot.capture.notes[NOTE] = choice.version
        return choice.keys, choice.index

    def _write_tokens(self, output: Any) -> None:
        slot, batch = self._slot, self._batch
        if slot is None or batch is None or not self._plan.sends_tokens:
            return
        index = self._rows(slot, batch.ids.numel(), batch.ids.device, batch.length)
        tokens.write_targets(batch, index, slot, self._plan.coordinates.sp * batch.length)
        rows = slot.capture.num_rows
        logits = find_logits(self._logits if self._logits is not None else output, rows)
        if logits is not None:
            tokens.write_likelihood(logits.detach(), index, slot, self._plan.vocabulary)

    def _guarded(self, tap: str, *, is_timed: bool = True) -> Guard:
        return Guard(self, tap, self.device_type, is_timed=is_timed)

    def failed(self, tap: str, error: Exception) -> None:
        """Take note of an error; switch off what the breaker says."""
        self._breaker.record(tap, error)
        if self._breaker.is_open:
            self.is_open = False
