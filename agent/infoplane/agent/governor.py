"""The governor: keeps the agent's own time below a share of the step time, by sampling fewer steps.

    overhead = EMA(time on the training thread per sampled step) / (interval x EMA(step time))
             + CPU seconds of publisher and transport per second of steps

Too much: the level rises by one at the next step that both levels sample, which halves the first
term. Far too much: besides, nothing is sampled until then. Little for long: the level falls by one.
Levels nest, so ranks need not agree. What runs on a device is not measured.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Final

from infoplane.agent.cadence import Cadence
from infoplane.agent.counters import Counters
from infoplane.agent.settings import GovernorSettings

WARMUP_SAMPLES: Final = 4  # they build projections and grow the allocator's pools
SETTLE_SAMPLES: Final = 4  # between a change and the next judgement
_WEIGHT: Final = 0.125  # of the newest sample in an average
_BACKGROUND_S: Final = 20.0  # of step time; CPU is reported in lumps of some seconds
_BACKGROUND: Final = ("publisher_cpu_seconds", "transport_cpu_seconds")
_log = logging.getLogger("infoplane.agent")


@dataclass(frozen=True, slots=True)
class Totals:
    """Running totals at the end of a sampled step.

    Attributes:
        steps: optimizer steps finished.
        step_seconds: their time, from the first forward to the boundary.
        wall_seconds: any clock; tells a pause between steps from steps.
        background: CPU seconds, one total per thread or process that works beside training.
    """

    steps: float
    step_seconds: float
    wall_seconds: float
    background: tuple[float, ...]


class Governor:
    """Judges the cost after every sampled step, on the training thread; takes about 30 us there.

    Attributes:
        overhead: the agent's share of the step time, 0 before it is known.
    """

    def __init__(self, settings: GovernorSettings, cadence: Cadence, counters: Counters) -> None:
        self.overhead = 0.0
        self._settings = settings
        self._cadence = cadence
        self._counters = counters
        self._before: Totals | None = None
        self._samples = 0
        self._level = cadence.level
        self._unsettled = SETTLE_SAMPLES
        self._calm = 0
        self._thread = _Average()
        self._step = _Average()
        self._background = tuple(_Rate() for _ in _BACKGROUND)

    def totals(self, wall_seconds: float) -> Totals:
        """Return the totals that `sampled` wants, from the counters."""
        found = self._counters.snapshot()
        background = tuple(found.get((name, ""), 0.0) for name in _BACKGROUND)
        steps, seconds = found.get(("steps", ""), 0.0), found.get(("step_seconds", ""), 0.0)
        return Totals(steps, seconds, wall_seconds, background)

    def sampled(self, step: int, thread_seconds: float, now: Totals) -> None:
        """Take note of sampled step `step`, which is over, and change the level from a later one if need be.

        Args:
            step: the step.
            thread_seconds: the agent's time on the training thread since the last call.
            now: totals, this step included.
        """
        before, self._before = self._before, now
        self._samples += 1
        self._notice_level(self._cadence.at(step)[0])
        steps = now.steps - (before.steps if before else 0.0)
        self._counters.add("level_steps", value=steps * self._level)
        if before is None or steps <= 0 or self._samples <= WARMUP_SAMPLES:
            self._restart(now)
            return
        seconds = now.step_seconds - before.step_seconds
        self._thread.add(thread_seconds)
        self._step.add(seconds / steps)
        is_paused = now.wall_seconds - before.wall_seconds > 2 * seconds + 1.0
        for rate, total in zip(self._background, now.background, strict=True):
            # An evaluation between two steps is no step time, and what was done meanwhile not its cost.
            rate.restart(total, now.step_seconds) if is_paused else rate.add(
                total, now.step_seconds
            )
        self._judge(step)

    def _notice_level(self, level: int) -> None:
        """Expect half the background's work per level, whoever asked for it, and judge anew."""
        if level != self._level:
            for rate in self._background:
                rate.value *= 2.0 ** (self._level - level)
            self._level = level
            self._unsettled, self._calm = SETTLE_SAMPLES, 0

    def _restart(self, now: Totals) -> None:
        for rate, total in zip(self._background, now.background, strict=True):
            rate.restart(total, now.step_seconds)

    def _judge(self, step: int) -> None:
        level, since = self._cadence.at(step)
        if level != self._cadence.level or step < since:
            return  # a change is on its way
        interval = 1 << level
        cost = self._thread.value / max(interval * self._step.value, 1e-9)
        self.overhead = cost + sum(rate.value for rate in self._background)
        self._unsettled -= 1
        if self._unsettled > 0:
            return
        target = self._settings.target_ratio
        self._calm = self._calm + 1 if self.overhead < target / 2 else 0
        if self.overhead > target:
            self._raise(level, step)
        elif self._calm >= self._settings.calm_samples:
            self._lower(level, step)

    def _raise(self, level: int, step: int) -> None:
        is_hard = self.overhead > self._settings.hard_ratio
        self._counters.add("governor_breaches", "hard" if is_hard else "target")
        if level >= self._settings.level_high:
            self._unsettled = SETTLE_SAMPLES
            return  # the floor: so much is sampled, whatever it costs
        since = self._change(level + 1, step, "raised")
        if is_hard:
            self._cadence.hold(step + 1, since)

    def _lower(self, level: int, step: int) -> None:
        self._calm = 0
        if level > self._cadence.commanded:
            self._change(level - 1, step, "lowered")

    def _change(self, level: int, step: int, direction: str) -> int:
        since = self._cadence.govern(level, step + 1)
        self._counters.add("level_changes", direction)
        _log.info(
            "infoplane: overhead %.2f %% of step time (target %.2f %%): every %d steps from step %d on",
            100 * self.overhead, 100 * self._settings.target_ratio, 1 << level, since,
        )  # fmt: skip
        return since


class _Average:
    """Exponential moving average; of the first values, the plain one."""

    def __init__(self) -> None:
        self.value = 0.0
        self._count = 0

    def add(self, value: float) -> None:
        self._count += 1
        self.value += max(_WEIGHT, 1 / self._count) * (value - self.value)


class _Rate:
    """CPU seconds per second of steps, from a total that may stand still for seconds and then jump."""

    def __init__(self) -> None:
        self.value = 0.0
        self._lasted = 0.0
        self._total = self._at = 0.0

    def restart(self, total: float, at: float) -> None:
        self._total, self._at = total, at

    def add(self, total: float, at: float) -> None:
        spent, lasted = total - self._total, at - self._at
        if spent <= 0 or lasted <= 0:
            return
        self._lasted += lasted
        weight = max(1 - math.exp(-lasted / _BACKGROUND_S), lasted / self._lasted)
        self.value += weight * (spent / lasted - self.value)
        self.restart(total, at)
