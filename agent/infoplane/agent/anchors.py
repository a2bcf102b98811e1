"""Anchors: the same few samples run through the model again and again.

So drift of representations can be told from a change of the data. Opt-in: it costs an extra forward pass, in eval mode,
without gradients, with all random states kept, after the steps s with s % 2^level == 0. Under ZeRO-3 and tensor
parallelism a forward pass is a collective: whether it runs is decided by the step alone, never by what one rank knows
(a full buffer, an error, a tap that is off), and every rank has to register anchors before the same step and stop at
the same step.

    unit anchor      one record a pass, from the first rank of data, sequence and tensor parallelism
    anchor/logits    what the model predicts there, see `infoplane.agent.anchor_logits`
    anchor/<tap>     rows of `embed`, of the blocks and of `final_norm`; `anchor/07` is the output of block 7
    row key          hash63(version, key seed; sample id, position): the same in every pass, run and job

At most 256 positions are kept, those with the smallest keys; padding by an `attention_mask` never is. A window has at
most one pass.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from infoplane.agent.anchor_logits import next_tokens, reserve, tap_of, write_logits
from infoplane.agent.counters import Counters
from infoplane.agent.hashing import UIntArray, chain, mix_array
from infoplane.agent.layout import Layout
from infoplane.agent.outputs import first_float
from infoplane.agent.packing import pack_rows
from infoplane.agent.parcels import UnitParcel
from infoplane.agent.projection import Projection
from infoplane.agent.records import Envelope
from infoplane.agent.roles import Role
from infoplane.agent.settings import SamplingSettings
from infoplane.agent.slots import Loan, Slot, SlotRing
from infoplane.agent.taps import Tap
from infoplane.agent.undisturbed import Batch, call, undisturbed
from infoplane.agent.units import ANCHOR, LayerUnit
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire import to_tensor

VERSION: Final = 1
MAX_ROWS: Final = 256
_DOMAIN: Final = 0x616E63686F72  # "anchor": another hash than that of the row keys
_SLOTS: Final = 2
_log = logging.getLogger("infoplane.agent")


@dataclass(frozen=True, slots=True)
class AnchorRows:
    """Which positions are kept: `keys` uint64 (k,) ascending, and `index` int64 (k,) on the device."""

    keys: UIntArray
    index: torch.Tensor
    num_rows: int


def anchor_level(rule: SamplingSettings, every_windows: int) -> int:
    """Return the finest level whose steps are at least `every_windows` windows apart."""
    return ((rule.width << rule.base_level) * every_windows - 1).bit_length()


def anchor_keys(ids: Sequence[int], length: int, key_seed: int) -> UIntArray:
    """Return the key of every position of every sample, uint64 (B, S).

    Ids are of 32 bits: of larger ones the low 32 count.
    """
    sample = np.array([number & 0xFFFFFFFF for number in ids], dtype=np.uint64) << np.uint64(32)
    cell = sample[:, None] | np.arange(length, dtype=np.uint64)
    return mix_array(cell ^ np.uint64(chain(VERSION, _DOMAIN, key_seed))) >> np.uint64(1)


class Anchors:
    """Runs the anchor batch, and sends what the taps saw.

    Args:
        root: the model.
        batch: what it is called with.
        ids: one number per sample; None: 0, 1, 2, ...
        level: a pass follows every 2^level-th step.
        envelope: whose identity and sequence numbers records have.
        units: of this rank.
        counters: `anchor_passes`, `anchor_seconds`, `anchor_errors` by type, `records_dropped` for want of a slot.
        offer: takes parcels for the publisher.
    """

    def __init__(
        self,
        root: nn.Module,
        batch: Batch,
        ids: Sequence[int] | None,
        level: int,
        *,
        envelope: Envelope,
        units: Sequence[LayerUnit],
        counters: Counters,
        offer: Callable[[UnitParcel], object],
    ) -> None:
        self._root, self._batch, self._level = root, batch, level
        self._ids = None if ids is None else list(ids)
        self._envelope, self._counters, self._offer = envelope, counters, offer
        self._mask, self._following = _mask_of(batch), next_tokens(batch)
        at, rule = envelope.identity.coordinates, envelope.settings.sampling
        is_sender = (at.dp, at.sp, at.tp) == (0, 0, 0)
        self._taps = dict(_sites(units)) if is_sender else {}
        self._projection = Projection(rule.projection_dim, rule.projection_seed)
        self._rows: AnchorRows | None = None
        self._has_failed = False
        self._waiting: deque[Slot] = deque()
        device = next((p.device for p in root.parameters()), torch.device("cpu"))
        self._ring = SlotRing(_layout(self._taps, rule.projection_dim), _SLOTS, device)
        self._times: deque[int] = deque()
        if self._taps:
            # Replaced as a whole: the publisher's thread goes through it.
            envelope.roles = {**envelope.roles, ANCHOR: Role(0, 1, level)}

    @property
    def interval(self) -> int:
        """Steps between two passes."""
        return 1 << self._level

    # ---------------------------------------------------------------- training thread

    def boundary(self, step: int) -> float:
        """Run the pass if `step`, which is over, is due; never raises. Returns the seconds of the pass."""
        seconds = 0.0
        if step % self.interval == 0:
            start = perf_counter()
            try:
                self._pass(step)
            except Exception as error:  # noqa: BLE001 - training goes on
                self._failed(error)
            seconds = perf_counter() - start
            self._counters.add("anchor_passes")
            self._counters.add("anchor_seconds", value=seconds)
        if self._waiting:
            self.hand_over()
        return seconds

    def hand_over(self, *, wait: bool = False) -> None:
        """Offer every pass whose copy to the host has arrived; `wait` for it only at the end of the run."""
        while self._waiting:
            slot = self._waiting[0]
            if wait:
                slot.wait()
            elif not slot.is_copied():
                return
            self._send(self._waiting.popleft(), self._times.popleft())

    def _pass(self, step: int) -> None:
        slot = self._ring.take() if self._taps else None
        if self._taps and slot is None:
            self._counters.add("records_dropped", "no_slot")
        try:
            with undisturbed(self._root), self._watched(step, slot):
                output = call(self._root, self._batch)
                self._see_logits(slot, output)
        finally:
            if slot is not None and slot.capture.widths:
                slot.start_copy()
                self._waiting.append(slot)
                self._times.append(time.time_ns() // 1_000_000)
            elif slot is not None:
                self._ring.put(slot)

    @contextmanager
    def _watched(self, step: int, slot: Slot | None) -> Iterator[None]:
        """Hang hooks in for the time of one pass."""
        if slot is None:
            yield
            return
        slot.capture.step, slot.capture.widths = step, {}
        slot.capture.notes = {}
        handles = []
        try:
            for site, tap in self._taps.items():
                see = partial(self._see, slot, site)
                if tap.is_input:
                    hook = tap.module.register_forward_pre_hook(
                        lambda _module, args, kwargs, see=see: see((args, kwargs)), with_kwargs=True
                    )
                else:
                    hook = tap.module.register_forward_hook(
                        lambda _module, _args, output, see=see: see(output)
                    )
                handles.append(hook)
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _see(self, slot: Slot, site: str, value: Any) -> None:
        try:
            if site not in slot.capture.widths:
                self._write(slot, site, first_float(value))
        except Exception as error:  # noqa: BLE001 - the pass goes on, it may be a collective
            self._failed(error)

    def _see_logits(self, slot: Slot | None, output: Any) -> None:
        rows = self._rows
        if slot is None or rows is None or self._envelope.identity.coordinates.tp_size > 1:
            return
        try:
            write_logits(slot, output, rows.index, rows.num_rows, self._following)
        except Exception as error:  # noqa: BLE001 - the rows of the taps are good all the same
            self._failed(error)

    def _write(self, slot: Slot, site: str, value: torch.Tensor) -> None:
        rows = value.detach().reshape(-1, value.shape[-1])
        if self._rows is None:
            self._rows = self._choose(value)
        kept = self._rows
        if rows.shape[0] != kept.num_rows:
            raise ValueError(f"{rows.shape[0]} rows where other passes have {kept.num_rows}")
        matrix = self._projection.matrix(rows.shape[1], rows.device)
        with torch.autocast(rows.device.type, enabled=False):
            x = rows.index_select(0, kept.index).float()
            torch.mm(x, matrix, out=slot.device[f"{site}:rows"][: len(kept.keys)])
        slot.capture.widths[site] = rows.shape[1]

    def _choose(self, value: torch.Tensor) -> AnchorRows:
        if value.ndim < 3:
            raise ValueError(f"activations (B, S, d) are needed, not {tuple(value.shape)}")
        size, length = int(value.shape[0]), int(value.shape[1])
        ids = list(range(size)) if self._ids is None else self._ids
        if len(ids) != size:
            raise ValueError(f"{len(ids)} ids of {size} samples")
        keys = anchor_keys(ids, length, self._envelope.settings.sampling.key_seed).reshape(-1)
        places = np.arange(size * length)
        if self._mask is not None and self._mask.shape == (size, length):
            places = places[self._mask.reshape(-1)]
        places = places[np.argsort(keys[places], kind="stable")[:MAX_ROWS]]
        index = torch.from_numpy(places).to(value.device)
        return AnchorRows(keys[places], index, size * length)

    def _send(self, slot: Slot, time_ms: int) -> None:
        envelope, rows = self._envelope, self._rows
        assert rows is not None
        fill = partial(self._fill, slot, rows)
        seq, step = envelope.next_seq(ANCHOR), slot.capture.step
        loan = Loan(self._ring, slot, 1)
        self._offer(UnitParcel(envelope, ANCHOR, seq, step, time_ms, slot.nbytes, fill, loan))

    def _failed(self, error: Exception) -> None:
        self._counters.add("anchor_errors", type(error).__name__)
        if not self._has_failed:
            self._has_failed = True
            _log.warning("infoplane: error in an anchor pass, counted from now on: %r", error)

    # ---------------------------------------------------------------- publisher thread

    def _fill(self, slot: Slot, rows: AnchorRows, record: pb.Record) -> None:
        sketch = record.sketch
        sketch.sampling.CopyFrom(self._envelope.sampling())
        sketch.rows_total = rows.num_rows
        sketch.row_keys.CopyFrom(to_tensor(rows.keys))
        for site, width in slot.capture.widths.items():
            values = slot.host[f"{site}:rows"][: len(rows.keys)]
            sketch.taps.add(tap=site, width=width, rows=pack_rows(values))
        logits = tap_of(slot, len(rows.keys))
        if logits is not None:
            sketch.taps.append(logits)


def _sites(units: Sequence[LayerUnit]) -> Iterator[tuple[str, Tap]]:
    """Yield (name in the unit, tap) of the main stream."""
    for tap in (tap for unit in units for tap in unit.taps):
        layer, _, site = tap.name.partition("/")
        if site == "block" or layer in ("embed", "final_norm"):
            # Without the site, as `.../block` means a tap of the training batch to readers.
            yield f"{ANCHOR}/{layer}", tap


def _layout(taps: Mapping[str, Tap], dim: int) -> Layout:
    layout = Layout()
    for site in taps:
        layout.add(f"{site}:rows", torch.float32, MAX_ROWS, dim)
    if taps:
        reserve(layout, MAX_ROWS)
    return layout


def _mask_of(batch: Batch) -> npt.NDArray[np.bool_] | None:
    """Return the attention mask, bool (B, S), read to the host: once, when anchors are registered."""
    mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
    if not isinstance(mask, torch.Tensor) or mask.ndim != 2:
        return None
    found: npt.NDArray[np.bool_] = (mask != 0).cpu().numpy()
    return found
