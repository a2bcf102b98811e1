"""The ESTIMATE state machine: one per run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from infoplane.collector.estimate import snapshot
from infoplane.collector.estimate.compute import EstimateSettings, WindowComputation
from infoplane.collector.estimate.history import EventHistory, panes_of_memo, whole_panes
from infoplane.collector.estimate.join import JoinedWindow, RunAttempt
from infoplane.collector.estimate.memory import Memory, SavedMemory, load_parts, same
from infoplane.collector.estimate.view import WindowView
from infoplane.collector.metrics.metric import Source
from infoplane.collector.metrics.registry import METRICS
from infoplane.collector.stage import Emission, Stage
from infoplane.collector.taps import UNIT_PREFIX
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.topics import LATEST, RESULTS, WINDOWS, run_key, series_key

GONE = "gone"  # part of the memo
JOINED = ""  # lane of the units that are joined


def _every(source: Source) -> bool:
    return True


@dataclass(slots=True)
class EstimateMachine:
    """Joins the units of each window, in order, and publishes every estimate.

    Streams of events have windows of their own that nothing is joined with: each is a lane beside the joined one.

    Cost: one computation per metric and window; a late pane of a retained window costs another.
    """

    run: str
    settings: EstimateSettings
    lanes: dict[str, dict[int, RunAttempt]] = field(default_factory=dict)
    histories: dict[str, EventHistory] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    saved_memory: SavedMemory = field(default_factory=SavedMemory)

    def add(self, pane: pb.WindowPane, clock_ms: int, position: int) -> list[Emission]:
        """Take in one part of a pane; see `infoplane.collector.stage.Machine`."""
        lane = pane.unit if pane.unit.startswith(UNIT_PREFIX) else JOINED
        attempts = self.lanes.setdefault(lane, {})
        newest = max(attempts, default=0)
        if pane.attempt < newest and pane.attempt not in attempts:
            return self._ignore("stale_attempt")
        attempt = attempts.get(pane.attempt)
        if attempt is None:
            memory = attempts[newest].memory_before(sys.maxsize) if attempts else {}
            attempt = attempts[pane.attempt] = RunAttempt(memory=memory)
        if pane.window < attempt.expired_before:
            return self._ignore("too_late")
        window = attempt.windows.get(pane.window)
        if window is None:
            window = JoinedWindow(pane.window, position, clock_ms)
        changed = window.add(pane)  # may raise, before anything is kept
        attempt.windows[pane.window] = window
        return list(self._advance(clock_ms, window if changed and window.closed else None))

    def on_timer(self, clock_ms: int) -> list[Emission]:
        """Close the windows whose join deadline passed."""
        return list(self._advance(clock_ms, None))

    def due_ms(self) -> int | None:
        """Join deadline of the oldest open window, as windows close in order, or end of a retention."""
        dues = []
        for attempt in self._attempts():
            windows = attempt.windows.values()
            front = min((w for w in windows if not w.closed), key=_index, default=None)
            if front is not None:
                dues.append(front.opened_ms + self.settings.join_deadline_ms)
            closed = (w.closed_ms for w in windows if w.closed_ms is not None)
            dues += [closed_ms + self.settings.retain_ms for closed_ms in closed]
        return min(dues, default=None)

    def needed_position(self) -> int | None:
        """First pane of the oldest window that is open or retained."""
        return min((w.position for a in self._attempts() for w in a.windows.values()), default=None)

    def memo(self) -> Mapping[str, bytes]:
        """Which windows are gone, and the events that are kept."""
        gone = {
            lane: {str(number): a.expired_before for number, a in sorted(attempts.items())}
            for lane, attempts in sorted(self.lanes.items())
        }
        parts = {GONE: json.dumps(gone).encode()} if gone else {}
        joined = self.lanes.get(JOINED, {})
        parts |= self.saved_memory.parts({n: a.memory for n, a in sorted(joined.items())})
        for unit, history in self.histories.items():
            parts |= history.memo(unit)
        return parts

    def to_bytes(self) -> bytes:
        """Return the whole state, versioned."""
        kept = [pane for history in self.histories.values() for pane in history.all()]
        return snapshot.dump(self.run, self.lanes, kept, self.counts)

    @classmethod
    def from_bytes(cls, data: bytes, settings: EstimateSettings) -> EstimateMachine:
        """Return the machine whose `to_bytes` gave `data`; raises DecodeError."""
        run, lanes, kept, counts = snapshot.load(data)
        machine = cls(run, settings, lanes, counts=counts)
        for panes in whole_panes(kept):
            machine._history(panes[0].unit).put(panes)
        return machine

    @classmethod
    def from_memo(
        cls, run: str, saved: Mapping[str, bytes], settings: EstimateSettings
    ) -> EstimateMachine:
        """Return a machine that goes on where one with this memo stood; open windows come from the log."""
        machine = cls(run, settings, saved_memory=SavedMemory.of_parts(saved))
        lanes = json.loads(saved.get(GONE, b"{}"))
        joined = {int(number): before for number, before in lanes.get(JOINED, {}).items()}
        memories = load_parts(saved, joined)
        for lane, gone in lanes.items():
            machine.lanes[lane] = {
                int(number): RunAttempt(
                    expired_before=before,
                    closed_through=before - 1,
                    memory=memories.get(int(number), {}) if lane == JOINED else {},
                )
                for number, before in gone.items()
            }
        for panes in panes_of_memo(saved):
            machine._history(panes[0].unit).put(panes)
        return machine

    # ------------------------------------------------------------ windows

    def _attempts(self) -> Iterator[RunAttempt]:
        for attempts in self.lanes.values():
            yield from attempts.values()

    def _history(self, unit: str) -> EventHistory:
        settings = self.settings
        fresh = EventHistory(settings.horizon_events, settings.retain_windows)
        return self.histories.setdefault(unit, fresh)

    def _advance(self, clock_ms: int, corrected: JoinedWindow | None) -> Iterator[Emission]:
        for lane, attempts in sorted(self.lanes.items()):
            newest = max(attempts, default=0)
            for number, attempt in sorted(attempts.items()):
                if corrected is not None and attempt.windows.get(corrected.index) is corrected:
                    yield from self._correct(lane, attempt, corrected, clock_ms)
                yield from self._close(lane, attempt, clock_ms, outdated=number < newest)
                self._expire(lane, attempt, clock_ms, outdated=number < newest)
            for number in [n for n, a in attempts.items() if n < newest and not a.windows]:
                del attempts[number]

    def _correct(
        self, lane: str, attempt: RunAttempt, corrected: JoinedWindow, clock_ms: int
    ) -> Iterator[Emission]:
        """Publish a window again, and what of those after it depends on it.

        Of events that is all, as their history holds it; of joined windows it is what estimators remember.
        """
        for index in sorted(index for index in attempt.windows if index >= corrected.index):
            window = attempt.windows[index]
            if not (window.closed and window.whole):
                continue
            window.late_index += 1
            known = window.after
            is_whole = lane != JOINED or window is corrected
            takes = _every if is_whole else _remembering
            yield from self._publish(lane, attempt, window, clock_ms, takes)
            if lane == JOINED and same(known or {}, window.after or {}):
                return

    def _close(
        self, lane: str, attempt: RunAttempt, clock_ms: int, *, outdated: bool
    ) -> Iterator[Emission]:
        for index in sorted(attempt.windows):
            window = attempt.windows[index]
            if window.closed:
                continue
            if not (outdated or window.ready or self._overdue(window, clock_ms)):
                return  # windows close in order
            window.closed_ms = clock_ms
            attempt.closed_through = max(attempt.closed_through, index)
            if window.whole:
                yield from self._publish(lane, attempt, window, clock_ms)

    def _overdue(self, window: JoinedWindow, clock_ms: int) -> bool:
        return clock_ms >= window.opened_ms + self.settings.join_deadline_ms

    def _expire(self, lane: str, attempt: RunAttempt, clock_ms: int, *, outdated: bool) -> None:
        """Forget windows that no late pane may correct any more: a run that has ended costs nothing.

        Those of events are small, and their history is kept anyway, so only time limits them.
        """
        kept = self.settings.retain_windows if lane == JOINED else sys.maxsize
        limit = attempt.closed_through - kept + 1
        if outdated:
            attempt.windows.clear()
        gone = [
            index
            for index, window in attempt.windows.items()
            if window.closed_ms is not None
            and (index < limit or clock_ms >= window.closed_ms + self.settings.retain_ms)
        ]
        for index in sorted(gone):
            attempt.forget(index)

    def _publish(
        self,
        lane: str,
        attempt: RunAttempt,
        window: JoinedWindow,
        clock_ms: int,
        takes: Callable[[Source], bool] = _every,
    ) -> Iterator[Emission]:
        view = self._view(lane, window)
        memory = Memory(attempt.memory_before(window.index), window.index)
        computation = WindowComputation(view, self.settings, memory, takes)
        kind = pb.LATE if window.late_index else pb.FINAL
        pane = pb.Pane(kind=kind, index=window.late_index)
        is_newest = window.index == attempt.closed_through
        for result in computation.results(pane, clock_ms):
            yield Emission(RESULTS, run_key(self.run), result)
            if is_newest:
                labels = tuple((label.name, label.value) for label in result.labels)
                yield Emission(LATEST, series_key(self.run, result.metric, labels), result)
        if lane == JOINED:
            window.after = memory.after

    def _view(self, lane: str, window: JoinedWindow) -> WindowView:
        panes = list(window.panes())
        if lane == JOINED:
            return WindowView.of_panes(panes, window.missing())
        history = self._history(lane)
        history.put(panes)
        return WindowView.of_events(panes, history.through(panes[0].attempt, panes[0].window))

    def _ignore(self, what: str) -> list[Emission]:
        self.counts[what] = self.counts.get(what, 0) + 1
        return []


def _index(window: JoinedWindow) -> int:
    return window.index


def _remembering(source: Source) -> bool:
    return source.remembers


def estimate_stage(settings: EstimateSettings | None = None) -> Stage[pb.WindowPane]:
    """Return the ESTIMATE stage: `windows` in, `results` and `latest` out, keyed by run."""
    chosen = settings or EstimateSettings(METRICS)

    return Stage(
        name="estimate",
        reads=WINDOWS,
        message_type=pb.WindowPane,
        key_of=lambda pane: pane.run,
        clock_of=lambda pane, timestamp_ms: pane.clock_ms,
        begin=lambda key, saved: EstimateMachine.from_memo(key, saved, chosen),
        restore=lambda data: EstimateMachine.from_bytes(data, chosen),
    )
