"""The ASSEMBLE state machine of reward events: one per (run, stream)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from infoplane.collector.assemble import event_snapshot
from infoplane.collector.assemble.event_table import EventTable
from infoplane.collector.assemble.event_windows import EventAttempt, EventSettings, EventWindow
from infoplane.collector.assemble.machine import MAX_STEP
from infoplane.collector.stage import Emission, Stage
from infoplane.collector.taps import UNIT_PREFIX
from infoplane.wire import DecodeError
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.topics import EVENTS, WINDOWS, run_key

ATTEMPTS = "attempts"  # part of the memo


@dataclass(slots=True)
class EventMachine:
    """Unites what all ranks observed into windows.

    Where steps are known, order, duplicates and delay within the allowed lateness change no last pane. Where they are
    not, the order of the log decides which window an event falls into.
    """

    run: str
    stream: str
    settings: EventSettings = field(default_factory=EventSettings)
    attempts: dict[int, EventAttempt] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, batch: pb.EventBatch, clock_ms: int, position: int) -> list[Emission]:
        """Take in one batch; see `infoplane.collector.stage.Machine`."""
        table = EventTable.of(
            batch.table, batch.step, batch.rank
        )  # first: a bad one changes nothing
        if batch.attempt < max(self.attempts, default=0) and batch.attempt not in self.attempts:
            self._count("stale_attempt")
            return []
        attempt = self.attempts.setdefault(batch.attempt, EventAttempt())
        window = self._window(attempt, batch, table, clock_ms, position)
        attempt.read_through = position + 1
        if window is not None:
            self._add_to(window, batch, table, clock_ms)
            for older in attempt.windows.values():
                if older.index < window.index and older.moved_on_ms is None:
                    older.moved_on_ms = clock_ms
        return list(self._sweep(clock_ms))

    def on_timer(self, clock_ms: int) -> list[Emission]:
        """Close, correct and expire what is due."""
        return list(self._sweep(clock_ms))

    def due_ms(self) -> int | None:
        """Earliest deadline, correction or expiry."""
        return min((due for w in self._all() for due in w.dues(self.settings)), default=None)

    def needed_position(self) -> int | None:
        """First batch of the oldest window that is open or may still be corrected."""
        return min((window.position for window in self._all()), default=None)

    def memo(self) -> Mapping[str, bytes]:
        """Which windows are gone, and where the oldest kept one began."""
        if not self.attempts:
            return {}
        saved = {str(n): [a.expired_before, *a.origin] for n, a in sorted(self.attempts.items())}
        return {ATTEMPTS: json.dumps(saved).encode()}

    def to_bytes(self) -> bytes:
        """Return the whole state, versioned."""
        return event_snapshot.dump(self.run, self.stream, self.attempts, self.counts)

    @classmethod
    def from_bytes(cls, data: bytes, settings: EventSettings) -> EventMachine:
        """Return the machine whose `to_bytes` gave `data`; raises DecodeError."""
        run, stream, attempts, counts = event_snapshot.load(data)
        return cls(run, stream, settings, attempts, counts)

    # ------------------------------------------------------------ batches

    def _window(
        self,
        attempt: EventAttempt,
        batch: pb.EventBatch,
        table: EventTable,
        clock_ms: int,
        position: int,
    ) -> EventWindow | None:
        """Return the window that the batch falls into, None if that is gone."""
        if batch.HasField("step"):
            index, steps = _index_by_step(batch)
        else:
            found = self._index_by_order(attempt, position)
            if found is None:
                return None
            index, steps = found, (0, 0)
        if index < attempt.expired_before:
            self._count("too_late")
            return None
        window = attempt.windows.get(index)
        if window is None:
            window = EventWindow(index, steps, position, clock_ms, EventTable(table.kind))
        if not window.table.agrees_with(table):
            raise DecodeError("content", "events do not fit the window's earlier events")
        attempt.windows[index] = window
        return window

    def _index_by_order(self, attempt: EventAttempt, position: int) -> int | None:
        """Return the window that is being filled, or a new one once it is full."""
        start, first = attempt.origin
        if position < start:
            return None  # read again after a restart: its window is gone
        if not attempt.windows:
            attempt.origin = (position, first)
            return first
        newest = max(attempt.windows)
        window = attempt.windows[newest]
        is_full = window.received >= self.settings.batch
        return newest + 1 if is_full or window.final_ms is not None else newest

    def _add_to(
        self, window: EventWindow, batch: pb.EventBatch, table: EventTable, clock_ms: int
    ) -> None:
        if (batch.rank, batch.seq) in window.seen:
            self._count("duplicate")
            return
        window.seen.add((batch.rank, batch.seq))
        window.offered += max(batch.offered, table.size)
        window.received += table.size
        window.table.add(table)
        window.touched_ms = clock_ms
        if window.final_ms is not None and window.late_due_ms is None:
            window.late_due_ms = clock_ms + self.settings.late_delay_ms

    # ------------------------------------------------------------ windows

    def _all(self) -> Iterator[EventWindow]:
        for attempt in self.attempts.values():
            yield from attempt.windows.values()

    def _sweep(self, clock_ms: int) -> Iterator[Emission]:
        newest = max(self.attempts, default=0)
        for number, attempt in sorted(self.attempts.items()):
            outdated = number < newest
            for index in sorted(attempt.windows):
                window = attempt.windows[index]
                yield from self._settle(number, window, clock_ms, outdated=outdated)
                if window.final_ms is not None and (
                    outdated or clock_ms >= window.final_ms + self.settings.lateness_ms
                ):
                    self._forget(attempt, index)
        for number in [n for n, a in self.attempts.items() if n < newest and not a.windows]:
            del self.attempts[number]

    def _forget(self, attempt: EventAttempt, index: int) -> None:
        del attempt.windows[index]
        attempt.expired_before = max(attempt.expired_before, index + 1)
        oldest = min(attempt.windows.values(), key=lambda window: window.index, default=None)
        start = oldest.position if oldest else attempt.read_through
        attempt.origin = (start, oldest.index if oldest else attempt.expired_before)

    def _settle(
        self, number: int, window: EventWindow, clock_ms: int, *, outdated: bool
    ) -> Iterator[Emission]:
        if window.final_ms is None:
            if outdated or clock_ms >= min(window.dues(self.settings)):
                yield from self._panes(number, window, clock_ms)
                window.final_ms = clock_ms
        elif window.late_due_ms is not None:
            closing = clock_ms >= window.final_ms + self.settings.lateness_ms
            if outdated or closing or clock_ms >= window.late_due_ms:
                window.late_index += 1
                window.late_due_ms = None
                yield from self._panes(number, window, clock_ms)

    def _panes(self, number: int, window: EventWindow, clock_ms: int) -> Iterator[Emission]:
        tables = list(window.table.parts())
        for place, table in enumerate(tables):
            pane = pb.WindowPane(
                run=self.run,
                attempt=number,
                unit=f"{UNIT_PREFIX}{self.stream}",
                window=window.index,
                pane=window.pane(),
                first_step=window.steps[0],
                last_step=window.steps[1],
                expected=min(window.offered, 0xFFFFFFFF),
                present=min(window.received, 0xFFFFFFFF),
                clock_ms=clock_ms,
                part=place,
                parts=len(tables),
                rows_total=window.received,
                events=table,
            )
            yield Emission(WINDOWS, run_key(self.run), pane)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1


def event_stage(settings: EventSettings | None = None) -> Stage[pb.EventBatch]:
    """Return the ASSEMBLE stage of events: `events` in, `windows` out, keyed by (run, stream)."""
    chosen = settings or EventSettings()

    def begin(key: str, saved: Mapping[str, bytes]) -> EventMachine:
        run, _, stream = key.partition("|")
        machine = EventMachine(run, stream, chosen)
        for number, (gone, *origin) in json.loads(saved.get(ATTEMPTS, b"{}")).items():
            machine.attempts[int(number)] = EventAttempt({}, gone, (origin[0], origin[1]))
        return machine

    return Stage(
        name="assemble-events",
        reads=EVENTS,
        message_type=pb.EventBatch,
        key_of=lambda batch: f"{batch.run}|{batch.stream}",
        clock_of=lambda batch, timestamp_ms: timestamp_ms,
        begin=begin,
        restore=lambda data: EventMachine.from_bytes(data, chosen),
    )


def _index_by_step(batch: pb.EventBatch) -> tuple[int, tuple[int, int]]:
    width, level = batch.rule.width, batch.rule.base_level
    if not 1 <= width <= 1 << 20 or level > 30 or batch.step >= MAX_STEP:
        raise DecodeError("content", f"step {batch.step}, window rule {width} << {level}")
    span = width << level
    first = batch.step // span * span
    return batch.step // span, (first, first + span - 1)
