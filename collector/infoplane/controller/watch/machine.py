"""The WATCH state machine: one per run. Results in, verdicts out, and what the policy makes of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from infoplane.collector.stage import Emission, Stage
from infoplane.collector.taps import FIRST
from infoplane.controller.policy import PolicyEngine
from infoplane.controller.watch.family import Family
from infoplane.controller.watch.latch import Latch
from infoplane.controller.watch.limits import DEFAULT_LIMITS, NONFINITE, Limit
from infoplane.controller.watch.sentences import change_verdict, limit_verdict
from infoplane.controller.watch.snapshot import (
    Gathering,
    WatchState,
    dump,
    largest_since,
    load,
    note,
)
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.topics import RESULTS, VERDICTS, run_key

STATE = "state"  # the one part of the memo
PLAN_METRIC = "training_announced"
PLAN_STREAM = "learning_rate"
INPUT_METRIC = (
    "von_neumann_entropy_nats"  # of the embedding: moves with the data, hardly with the optimizer
)


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """What is watched and how sure a detector must be."""

    families: tuple[str, ...] = ("von_neumann_entropy_nats", "representation_rms")
    site: str = "block"
    warmup_windows: int = 16
    threshold: float = 5.0
    agree: int = 2
    of: int = 3
    cooldown_windows: int = 20
    limits: tuple[Limit, ...] = DEFAULT_LIMITS


@dataclass(slots=True)
class WatchMachine:
    """Judges final panes, window by window. A late pane is history: it never issues a verdict again.

    Results of one metric and window come together; they are judged as soon as another metric or window begins. The
    policy, if there is one, sees each verdict, and then the result itself.
    """

    state: WatchState
    settings: WatchSettings
    policy: PolicyEngine | None = None

    def __post_init__(self) -> None:
        """Give the policy back what it remembered."""
        if self.policy is not None and self.state.policy is not None:
            self.policy.load(self.state.policy)

    @property
    def counts(self) -> dict[str, int]:
        """Results left out, by reason."""
        return self.state.counts

    def add(self, result: pb.Result, clock_ms: int, position: int) -> list[Emission]:
        """Take in one result; see `infoplane.collector.stage.Machine`."""
        if result.pane.kind != pb.FINAL or result.attempt < self.state.attempt:
            return []
        if result.attempt > self.state.attempt:
            self._begin_attempt(result.attempt)
        emissions = list(self._judge_before(result, clock_ms))
        labels = {label.name: label.value for label in result.labels}
        if result.metric == PLAN_METRIC and labels.get("stream") == PLAN_STREAM:
            self.state.plan = None if result.undefined else result.value
        if self._watched(result, labels):
            self.state.spans[result.window] = result.first_step
            if self.state.gathering is None:
                self.state.gathering = Gathering(result)
            self.state.gathering.add(labels["tap"], result)
        emissions += self._check_limits(result, clock_ms)
        if self.policy is not None:
            emissions += self.policy.see_result(result, result.clock_ms)
        return emissions

    def on_timer(self, clock_ms: int) -> list[Emission]:
        """Nothing waits for a time."""
        return []

    def due_ms(self) -> int | None:
        """Nothing waits for a time."""
        return None

    def needed_position(self) -> int | None:
        """Nothing: the memo is the whole state."""
        return None

    def memo(self) -> Mapping[str, bytes]:
        """The whole state."""
        return {STATE: self.to_bytes()}

    def to_bytes(self) -> bytes:
        """Return the whole state, versioned."""
        if self.policy is not None:
            self.state.policy = self.policy.dump()
        return dump(self.state)

    # ------------------------------------------------------------ judging

    def _begin_attempt(self, attempt: int) -> None:
        self.state = WatchState(self.state.run, attempt, counts=self.state.counts)
        if self.policy is not None:
            self.policy.begin_attempt()

    def _watched(self, result: pb.Result, labels: dict[str, str]) -> bool:
        tap = labels.get("tap", "")
        return (
            result.metric in self.settings.families
            and (tap == FIRST or tap.partition("/")[2] == self.settings.site)
            and not (result.saturated or result.completeness <= 0)
        )

    def _judge_before(self, result: pb.Result, clock_ms: int) -> Iterator[Emission]:
        """Judge what was gathered once `result` belongs to another metric or window."""
        state = self.state
        gathered = state.gathering
        if gathered is None or (gathered.metric, gathered.window) == (result.metric, result.window):
            return
        state.gathering = None
        embedding = gathered.values.pop(FIRST, math.nan)
        if gathered.metric == INPUT_METRIC:
            note(state.input_scores, gathered.window, state.input.add(embedding, state.plan))
        family = state.families.setdefault(gathered.metric, self._family())
        agreed = family.add(gathered.window, gathered.values, state.plan)
        note(state.block_scores, gathered.window, family.strongest)
        if agreed is not None:
            since = state.spans.get(agreed.first_window, gathered.head.first_step)
            # Blocks may answer a window later than the input.
            around = agreed.first_window - 1
            verdict = change_verdict(
                gathered.head,
                agreed,
                gathered.values,
                since_step=since,
                clock_ms=clock_ms,
                input_score=largest_since(state.input_scores, around),
                block_score=largest_since(state.block_scores, around),
            )
            yield from self._speak(verdict, result, gathered.completeness)
        for window in [w for w in self.state.spans if w < gathered.window - 2 * self.settings.of]:
            del self.state.spans[window]

    def _family(self) -> Family:
        latch = Latch(self.settings.agree, self.settings.of, self.settings.cooldown_windows)
        return Family(self.settings.threshold, self.settings.warmup_windows, latch)

    def _speak(
        self, verdict: pb.Verdict, cause: pb.Result, completeness: float = 1.0
    ) -> Iterator[Emission]:
        """Publish a verdict and what the policy answers to it."""
        yield Emission(VERDICTS, run_key(self.state.run), verdict)
        if self.policy is not None:
            # The clock of the log, not ours: ours follows the wall clock while there is nothing to read, and a
            # command that is issued again after a restart must have the same bytes.
            yield from self.policy.see_verdict(verdict, cause.clock_ms, completeness)

    def _check_limits(self, result: pb.Result, clock_ms: int) -> Iterator[Emission]:
        wrong = None
        if result.undefined == "nan" and result.metric in NONFINITE:
            wrong = "not a finite number"
        elif not result.undefined:
            for limit in self.settings.limits:
                if limit.metric == result.metric:
                    wrong = limit.broken_by(result.value)
        if wrong is None:
            return
        # One verdict a metric and cooldown: all taps break together more often than not.
        last = self.state.broken.get(result.metric)
        if last is not None and result.window < last + self.settings.cooldown_windows:
            return
        self.state.broken[result.metric] = result.window
        # Hard limits speak past every filter, and so to the policy too, however incomplete the window is.
        yield from self._speak(limit_verdict(result, wrong, clock_ms), result)


def watch_stage(
    settings: WatchSettings | None = None, policy: Callable[[], PolicyEngine] | None = None
) -> Stage[pb.Result]:
    """Return the WATCH stage: `results` in, `verdicts` out, keyed by run.

    With a `policy`, a new one for every run, also `audit` and `control`.
    """
    chosen = settings or WatchSettings()

    def machine(state: WatchState) -> WatchMachine:
        return WatchMachine(state, chosen, policy() if policy else None)

    def restore(data: bytes) -> WatchMachine:
        return machine(load(data))

    def begin(key: str, saved: Mapping[str, bytes]) -> WatchMachine:
        return restore(saved[STATE]) if STATE in saved else machine(WatchState(key))

    return Stage(
        name="watch",
        reads=RESULTS,
        message_type=pb.Result,
        key_of=lambda result: result.run,
        clock_of=lambda result, timestamp_ms: result.clock_ms,
        begin=begin,
        restore=restore,
        is_snapshot=True,
    )
