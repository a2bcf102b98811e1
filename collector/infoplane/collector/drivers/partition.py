"""One partition of one stage: decoding, one machine per key, its clock and its timers.

Every driver runs this, so the same log gives equal results through each. Nothing here reads the wall clock.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from google.protobuf.message import Message

from infoplane.collector.stage import Emission, Machine, Saved, Stage
from infoplane.wire import DecodeError, decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import LogEntry
from infoplane.wire.topics import DEAD, STATE

M = TypeVar("M", bound=Message)
HEAD_BYTES = 1024
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Keyed(Generic[M]):
    """A machine with its clock and what was last saved of it."""

    machine: Machine[M]
    clock_ms: int = 0
    saved: Mapping[str, bytes] = field(default_factory=dict)
    through: int = 0  # a snapshot holds what stands before this offset


@dataclass(slots=True)
class Partition(Generic[M]):
    """Runs a stage over the messages of one partition, in order.

    `saved` holds, by key, what an earlier life left; `infoplane.collector.stage.Machine.memo`.
    """

    stage: Stage[M]
    number: int
    saved: Mapping[str, Saved] = field(default_factory=dict)
    machines: dict[str, Keyed[M]] = field(default_factory=dict)
    messages: int = 0
    dead: int = 0
    next_offset: int = 0

    def feed(self, entry: LogEntry) -> Iterator[Emission]:
        """Take in one message; yields what it and the timers before it produced."""
        self.messages += 1
        self.next_offset = entry.offset + 1
        try:
            message = decode(entry.value, self.stage.message_type)
            key = self.stage.key_of(message)
        except DecodeError as error:
            yield self._dead_letter(entry, error)
            return
        keyed = self._keyed(key)
        if entry.offset < keyed.through:
            return
        yield from self._advance(keyed, self.stage.clock_of(message, entry.timestamp_ms))
        try:
            yield from keyed.machine.add(message, keyed.clock_ms, entry.offset)
        except DecodeError as error:
            yield self._dead_letter(entry, error)
        except Exception as error:  # noqa: BLE001 - see below
            # A message that trips a defect must not stop the others: it is kept, with its reason.
            _log.exception("%s failed on offset %d", self.stage.name, entry.offset)
            yield self._dead_letter(entry, DecodeError("error", str(error)))

    def idle(self, now_ms: int) -> Iterator[Emission]:
        """Advance every clock to `now_ms`: the reader has read all there is."""
        for keyed in list(self.machines.values()):
            yield from self._advance(keyed, now_ms)

    def due_ms(self) -> int | None:
        """Return when the next timer of any key is due, None if there is none."""
        dues = (keyed.machine.due_ms() for keyed in self.machines.values())
        return min((due for due in dues if due is not None), default=None)

    def finish(self) -> Iterator[Emission]:
        """Fire all timers in the order of their times: the log has ended."""
        while (due := self.due_ms()) is not None:
            yield from self.idle(due)

    def save(self) -> Iterator[Emission]:
        """Yield what of the memos changed since the last call; write it before `needed_offset` is committed."""
        for key, keyed in self.machines.items():
            parts = keyed.machine.memo()
            for name in sorted({*parts, *keyed.saved}):
                payload = parts.get(name, b"")
                if payload != keyed.saved.get(name, b""):
                    yield self._state(key, name, payload)
            keyed.saved = dict(parts)

    def needed_offset(self, next_offset: int) -> int:
        """Return the offset from which a restart must read, `next_offset` if it needs nothing older."""
        needs = (keyed.machine.needed_position() for keyed in self.machines.values())
        return min((need for need in needs if need is not None), default=next_offset)

    def _keyed(self, key: str) -> Keyed[M]:
        keyed = self.machines.get(key)
        if keyed is None:
            keyed = self._begin(key, self.saved.get(key, Saved()))
            self.machines[key] = keyed
        return keyed

    def _begin(self, key: str, saved: Saved) -> Keyed[M]:
        try:
            machine = self.stage.begin(key, saved.parts)
        except DecodeError as error:
            # Of another version, or torn: the log is read again as far as it is kept, rather than never.
            _log.error("%s: the saved state of %s cannot be read: %s", self.stage.name, key, error)
            saved = Saved()
            machine = self.stage.begin(key, saved.parts)
        through = saved.offset if self.stage.is_snapshot else 0
        return Keyed(machine, saved=saved.parts, through=through)

    def _advance(self, keyed: Keyed[M], clock_ms: int) -> Iterator[Emission]:
        """Fire timers one by one, each at its own time, up to `clock_ms`."""
        while (due := keyed.machine.due_ms()) is not None and due <= clock_ms:
            keyed.clock_ms = max(keyed.clock_ms, due)
            yield from keyed.machine.on_timer(keyed.clock_ms)
            if keyed.machine.due_ms() == due:
                raise RuntimeError(f"a timer of {self.stage.name} does not settle")
        keyed.clock_ms = max(keyed.clock_ms, clock_ms)

    def _state(self, key: str, part: str, payload: bytes) -> Emission:
        stage = self.stage.name
        state = pb.StageState(
            stage=stage, key=key, part=part, version=1, payload=payload, offset=self.next_offset
        )
        return Emission(STATE, f"{stage}|{key}|{part}".encode(), state)

    def _dead_letter(self, entry: LogEntry, error: DecodeError) -> Emission:
        self.dead += 1
        letter = pb.DeadLetter(
            topic=entry.topic,
            partition=entry.partition,
            offset=entry.offset,
            reason=error.reason,
            head=bytes(entry.value[:HEAD_BYTES]),
            length=len(entry.value),
            clock_ms=max(0, entry.timestamp_ms),
        )
        return Emission(DEAD, f"{entry.topic}|{entry.partition}".encode(), letter)
