"""The recorder: what happens inside the forward pass of a sampled micro-batch.

It opens on the first training forward of a sampled step, when a slot is free, and closes at its
end. While it is closed, no tap has a hook in the model. Recomputation during the backward pass
(activation checkpointing) finds it closed; a backward inside the forward is told apart by torch's
current graph task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import nn

from infoplane.agent import tokens
from infoplane.agent.batch import Batch, read_batch
from infoplane.agent.breaker import Breaker
from infoplane.agent.cadence import Cadence
from infoplane.agent.counters import Counters
from infoplane.agent.hooks import TapHooks
from infoplane.agent.projection import Projection
from infoplane.agent.sampling import RowSampling
from infoplane.agent.sketch import sketch_act, sketch_block
from infoplane.agent.slots import Capture, Slot, SlotRing
from infoplane.agent.taps import Tap

_log = logging.getLogger("infoplane.agent")
# Private in torch; where it is missing, only a backward inside a forward goes undetected.
_graph_task: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: -1)


@dataclass(frozen=True, slots=True)
class Plan:
    """What the recorder needs to know.

    Attributes:
        step: returns the number of the step in progress.
        cadence: says which steps are sampled.
        labels: setting tokens.labels.
        device: where activations are.
        num_units: records that are lost when a sampled step is dropped.
    """

    step: Callable[[], int]
    cadence: Cadence
    labels: str
    sampling: RowSampling
    projection: Projection
    device: torch.device
    num_units: int


class Recorder:
    """Listens to the hooks and writes sketches into a slot.

    Attributes:
        taps: the hooks to hang in while it is open.
        is_open: a sampled micro-batch is running.
        is_paused: nothing is sampled until the user resumes.
        step: step of the last training forward, -1 before the first.
        first_step: the first of them, -1 before.
        started: perf_counter when that step's first forward began, in seconds.
        seconds: time spent on the training thread in sampled hooks.
    """

    def __init__(self, plan: Plan, ring: SlotRing, breaker: Breaker, counters: Counters) -> None:
        self.taps = TapHooks()
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
        self._index: torch.Tensor | None = None
        self._batch: Batch | None = None
        self._logits: torch.Tensor | None = None

    # ---------------------------------------------------------------- called by hooks

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Begin a forward pass; opens on micro-batch 0 of a sampled step."""
        if torch.compiler.is_compiling() or _graph_task() != -1:
            return
        self._shut()
        step = self._plan.step()
        if step == self.step:
            return
        self.begin(step)
        if self._slot is None or self._breaker.is_open:
            return
        with self._guarded("tokens", is_timed=False):
            self._batch = read_batch(module, args, kwargs, self._plan.labels)
        self.taps.arm()
        self.is_open = True
        self.seconds += perf_counter() - self.started

    def _shut(self) -> None:
        self.is_open = False
        self.taps.disarm()

    def fire(self, tap: Tap, value: Any) -> None:
        """Sketch what `tap` saw, once per sampled micro-batch."""
        if torch.compiler.is_compiling() or _graph_task() != -1:
            return
        slot = self._slot
        if slot is None or tap.name in slot.capture.widths or tap.name in self._breaker.off:
            return
        with self._guarded(tap.name):
            self._sketch(tap, first_float(value), slot)

    def logits(self, output: Any) -> None:
        """Keep the head's output until the end of the forward."""
        if torch.compiler.is_compiling() or _graph_task() != -1:
            return
        if isinstance(output, torch.Tensor):
            self._logits = output.detach()

    def leave(self, output: Any) -> None:
        """End the forward pass: the tokens of the sampled rows are known now."""
        if torch.compiler.is_compiling() or _graph_task() != -1:
            return
        self._shut()
        if "tokens" not in self._breaker.off:
            with self._guarded("tokens"):
                self._write_tokens(output)
        self._batch = self._logits = None

    # ---------------------------------------------------------------- called at boundaries

    def begin(self, step: int) -> None:
        """Enter `step`, and take a slot if it is sampled."""
        self.started = perf_counter()
        self.step = step
        if self.first_step < 0:
            self.first_step = step
        self._drop()
        if self.is_paused or not self._plan.cadence.samples(step):
            return
        self._slot = self._ring.take()
        if self._slot is None:
            self._counters.add("records_dropped", "no_slot", self._plan.num_units)
        else:
            self._slot.capture = Capture(step, 0, 0, {}, [], 0)

    def take(self) -> Slot | None:
        """Return the slot of the step in progress, which is over; None if it was not sampled."""
        slot, self._slot = self._slot, None
        self._shut()
        self._index = self._batch = self._logits = None
        return slot

    def _drop(self) -> None:
        slot = self.take()
        if slot is not None:
            self._counters.add("records_dropped", "no_boundary", self._plan.num_units)
            self._ring.put(slot)

    # ---------------------------------------------------------------- on sampled micro-batches

    def _sketch(self, tap: Tap, value: torch.Tensor, slot: Slot) -> None:
        rows = value.detach().reshape(-1, value.shape[-1])
        index = self._rows(rows.shape[0], rows.device, slot)
        if tap.kind == "act":
            sketch_act(rows, index, slot.device, tap.name)
        else:
            matrix = self._plan.projection.matrix(rows.shape[1], rows.device)
            sketch_block(rows, matrix, index, slot.device, tap.name)
        slot.capture.widths[tap.name] = rows.shape[1]

    def _rows(self, num_rows: int, device: torch.device, slot: Slot) -> torch.Tensor:
        """Return the sampled positions; the first caller of a step says how many rows there are."""
        if self._index is None:
            step = slot.capture.step
            keys, self._index = self._plan.sampling.pick(step, 0, num_rows, device)
            slot.capture.num_rows, slot.capture.k = num_rows, keys.shape[0]
            slot.device["keys"][: keys.shape[0]].copy_(keys)
        if num_rows != slot.capture.num_rows:
            raise ValueError(f"{num_rows} rows where other taps have {slot.capture.num_rows}")
        return self._index

    def _write_tokens(self, output: Any) -> None:
        slot, batch = self._slot, self._batch
        if slot is None or batch is None:
            return
        index = self._rows(batch.ids.numel(), batch.ids.device, slot)
        tokens.write_targets(batch, index, slot)
        logits = find_logits(self._logits if self._logits is not None else output, slot)
        if logits is not None:
            tokens.write_likelihood(logits.detach(), index, slot)

    def _guarded(self, tap: str, *, is_timed: bool = True) -> _Guard:
        return _Guard(self, tap, is_timed=is_timed)

    def failed(self, tap: str, error: Exception) -> None:
        """Take note of an error; switch off what the breaker says."""
        self._breaker.record(tap, error)
        if self._breaker.is_open:
            self.is_open = False


class _Guard:
    """Around everything that touches tensors: no gradient, no autocast, no exception, time measured."""

    def __init__(self, recorder: Recorder, tap: str, *, is_timed: bool) -> None:
        self._recorder = recorder
        self._tap = tap
        self._is_timed = is_timed
        self._no_grad = torch.no_grad()
        # Under autocast the projection would run in bfloat16.
        self._autocast = torch.autocast(recorder.device_type, enabled=False)

    def __enter__(self) -> None:
        self._start = perf_counter()
        self._no_grad.__enter__()
        self._autocast.__enter__()  # type: ignore[no-untyped-call]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: Any
    ) -> bool:
        self._autocast.__exit__(kind, error, None)
        self._no_grad.__exit__(kind, error, None)
        if self._is_timed:
            self._recorder.seconds += perf_counter() - self._start
        if isinstance(error, Exception):
            self._recorder.failed(self._tap, error)
            return True
        return False


def first_float(value: Any) -> torch.Tensor:
    """Return the first floating tensor with a last dimension inside `value`: tensor, sequence or mapping.

    Raises:
        TypeError: there is none.
    """
    for tensor in _tensors(value):
        if tensor.is_floating_point() and tensor.ndim >= 2:
            return tensor
    raise TypeError(f"no floating tensor of two dimensions in a {type(value).__name__}")


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            yield from _tensors(item)


def find_logits(output: Any, slot: Slot) -> torch.Tensor | None:
    """Return the (..., V) floating tensor in `output` with one row per sampled-from row, or None."""
    named = getattr(output, "logits", None)
    for tensor in _tensors(named if isinstance(named, torch.Tensor) else output):
        if not tensor.is_floating_point() or tensor.ndim < 2:
            continue
        if tensor.numel() == slot.capture.num_rows * tensor.shape[-1]:
            return tensor
    return None
