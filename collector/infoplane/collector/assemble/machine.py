"""The ASSEMBLE state machine: one per (run, unit)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from infoplane.collector.assemble import snapshot
from infoplane.collector.assemble.attempt import Attempt
from infoplane.collector.assemble.bodies import Body, body_of
from infoplane.collector.assemble.roster import Roster
from infoplane.collector.assemble.window import Window
from infoplane.collector.stage import Emission, Stage
from infoplane.wire import DecodeError
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.topics import RECORDS, WINDOWS, run_key

MAX_STEP = 1 << 53
GONE = "gone"  # part of the memo


@dataclass(frozen=True, slots=True)
class AssembleSettings:
    """How long ASSEMBLE waits, in milliseconds of the log's clock."""

    deadline_ms: int = 30_000
    open_limit_ms: int = 900_000
    lateness_ms: int = 120_000
    late_delay_ms: int = 5_000


@dataclass(slots=True)
class AssembleMachine:
    """Merges the records of all ranks of one unit into windows.

    Order, duplicates and delay within the allowed lateness change no last pane. A record costs one merge; a message is
    sent only when a window closes or is corrected.
    """

    run: str
    unit: str
    settings: AssembleSettings = field(default_factory=AssembleSettings)
    attempts: dict[int, Attempt] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, record: pb.Record, clock_ms: int, position: int) -> list[Emission]:
        """Take in one record; see `infoplane.collector.stage.Machine`."""
        body = body_of(record)  # parses first: a bad record changes nothing
        attempt = self._attempt(record)
        if attempt is None:
            self._count("stale_attempt")
            return []
        attempt.roster.learn(record.sender)
        reached = self._reached(attempt, record)
        if body is not None:
            self._add_body(attempt, record, body, clock_ms, position)
        for window in attempt.windows.values():
            if reached > window.last_step:
                window.move_on(clock_ms + self.settings.deadline_ms)
        return list(self._sweep(clock_ms))

    def on_timer(self, clock_ms: int) -> list[Emission]:
        """Close, correct and expire what is due."""
        return list(self._sweep(clock_ms))

    def due_ms(self) -> int | None:
        """Earliest deadline, correction or expiry."""
        times = [
            due
            for attempt in self.attempts.values()
            for window in attempt.windows.values()
            for due in self._dues(window)
        ]
        return min(times, default=None)

    def needed_position(self) -> int | None:
        """First record of the oldest window that is open or may still be corrected."""
        return min(
            (w.position for a in self.attempts.values() for w in a.windows.values()), default=None
        )

    def memo(self) -> Mapping[str, bytes]:
        """Which windows are gone: a restart reads some of their records again and must not revive them."""
        gone = {str(number): a.expired_before for number, a in sorted(self.attempts.items())}
        return {GONE: json.dumps(gone).encode()} if any(gone.values()) else {}

    # ------------------------------------------------------------ records

    def _attempt(self, record: pb.Record) -> Attempt | None:
        newest = max(self.attempts, default=0)
        known = self.attempts.get(record.attempt)
        if known is None and record.attempt < newest:
            return None
        if known is None or not known.rule.width:
            rule = _checked_rule(record)
            gone = known.expired_before if known else 0
            known = Attempt(rule, Roster(rule.base_level), list(record.units), {}, gone)
            self.attempts[record.attempt] = known
        elif record.rule != known.rule:
            raise DecodeError("content", "the window rule changed within an attempt")
        return known

    def _reached(self, attempt: Attempt, record: pb.Record) -> int:
        """Return the step that the record shows its sender to have reached."""
        kind = record.WhichOneof("body")
        if kind == "bye":
            last = record.bye.last_step if record.bye.any_finished else record.sender.first_step - 1
            attempt.roster.part(record.sender.index, last)
            return MAX_STEP  # who has left is beyond every window
        if kind == "heartbeat":
            return record.heartbeat.finished_step + 1 if record.heartbeat.any_finished else 0
        return record.step

    def _add_body(
        self, attempt: Attempt, record: pb.Record, body: Body, clock_ms: int, position: int
    ) -> None:
        if record.step >= MAX_STEP:
            raise DecodeError("content", f"step {record.step}")
        index = record.step // attempt.span
        if index < attempt.expired_before:
            self._count("too_late")
            return
        window = attempt.windows.get(index)
        if window is None:
            first = index * attempt.span
            window = Window(index, first, first + attempt.span - 1, position, clock_ms)
            attempt.windows[index] = window
        if not window.add(record.sender.index, record.step, body):
            self._count("duplicate")
        elif window.final_ms is not None and window.late_due_ms is None:
            window.late_due_ms = clock_ms + self.settings.late_delay_ms

    # ------------------------------------------------------------ windows

    def _dues(self, window: Window) -> Iterator[int]:
        if window.final_ms is None:
            yield window.opened_ms + self.settings.open_limit_ms
            if window.deadline_ms is not None:
                yield window.deadline_ms
            return
        yield window.final_ms + self.settings.lateness_ms
        if window.late_due_ms is not None:
            yield window.late_due_ms

    def _sweep(self, clock_ms: int) -> Iterator[Emission]:
        newest = max(self.attempts, default=0)
        for number, attempt in sorted(self.attempts.items()):
            for index in sorted(attempt.windows):
                window = attempt.windows[index]
                yield from self._settle(number, attempt, window, clock_ms, number < newest)
                expired = window.final_ms is not None and (
                    number < newest or clock_ms >= window.final_ms + self.settings.lateness_ms
                )
                if expired:
                    del attempt.windows[index]
                    attempt.expired_before = max(attempt.expired_before, index + 1)
        for number in [n for n, a in self.attempts.items() if n < newest and not a.windows]:
            del self.attempts[number]

    def _settle(
        self, number: int, attempt: Attempt, window: Window, clock_ms: int, outdated: bool
    ) -> Iterator[Emission]:
        if window.expected_version != attempt.roster.version:
            window.expected = attempt.roster.expected(window.first_step, window.last_step)
            window.expected_version = attempt.roster.version
        if window.final_ms is None:
            due = outdated or window.complete or clock_ms >= min(self._dues(window))
            if due:
                yield from self._panes(number, attempt, window, clock_ms)
                window.final_ms = clock_ms
        elif window.late_due_ms is not None:
            closing = clock_ms >= window.final_ms + self.settings.lateness_ms
            if outdated or closing or window.complete or clock_ms >= window.late_due_ms:
                window.late_index += 1
                window.late_due_ms = None
                yield from self._panes(number, attempt, window, clock_ms)

    def _panes(
        self, number: int, attempt: Attempt, window: Window, clock_ms: int
    ) -> Iterator[Emission]:
        assert window.body is not None
        parts = window.body.parts()
        for place, pane in enumerate(parts):
            pane.run, pane.attempt, pane.unit = self.run, number, self.unit
            pane.window = window.index
            pane.pane.CopyFrom(window.pane())
            pane.first_step, pane.last_step = window.first_step, window.last_step
            pane.expected = max(window.expected, len(window.seen))
            pane.present = len(window.seen)
            pane.clock_ms = clock_ms
            pane.units.extend(attempt.units)
            pane.part, pane.parts = place, len(parts)
            pane.rule.CopyFrom(attempt.rule)
            yield Emission(WINDOWS, run_key(self.run), pane)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    # ------------------------------------------------------------ state

    def to_bytes(self) -> bytes:
        """Return the whole state, versioned."""
        return snapshot.dump(self.run, self.unit, self.attempts, self.counts)

    @classmethod
    def from_bytes(cls, data: bytes, settings: AssembleSettings) -> AssembleMachine:
        """Return the machine whose `to_bytes` gave `data`; raises DecodeError."""
        run, unit, attempts, counts = snapshot.load(data)
        return cls(run, unit, settings, attempts, counts)


def assemble_stage(settings: AssembleSettings | None = None) -> Stage[pb.Record]:
    """Return the ASSEMBLE stage: `records` in, `windows` out, keyed by (run, unit)."""
    chosen = settings or AssembleSettings()

    def begin(key: str, saved: Mapping[str, bytes]) -> AssembleMachine:
        run, _, unit = key.partition("|")
        machine = AssembleMachine(run, unit, chosen)
        for number, gone in json.loads(saved.get(GONE, b"{}")).items():
            machine.attempts[int(number)] = Attempt(pb.WindowRule(), Roster(0), [], {}, gone)
        return machine

    return Stage(
        name="assemble",
        reads=RECORDS,
        message_type=pb.Record,
        key_of=lambda record: f"{record.run}|{record.unit}",
        clock_of=lambda record, timestamp_ms: timestamp_ms,
        begin=begin,
        restore=lambda data: AssembleMachine.from_bytes(data, chosen),
    )


def _checked_rule(record: pb.Record) -> pb.WindowRule:
    rule = record.rule
    if not 1 <= rule.width <= 1 << 20 or rule.base_level > 30:
        raise DecodeError("content", f"window rule {rule.width} << {rule.base_level}")
    return rule
