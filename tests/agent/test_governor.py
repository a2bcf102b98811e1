"""The governor on simulated costs: what it samples, what it announces, and what it never does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from infoplane.agent.cadence import Cadence
from infoplane.agent.counters import Counters
from infoplane.agent.governor import SETTLE_SAMPLES, WARMUP_SAMPLES, Governor
from infoplane.agent.settings import GovernorSettings
from infoplane.collector.assemble.roster import Roster
from infoplane.wire import infoplane_pb2 as pb


class Job:
    """A training job in simulated time: what a step and a sample cost is given, nothing is measured."""

    def __init__(self, base: int, step_s: float, **settings: float) -> None:
        self.cadence, self.counters = Cadence(base), Counters()
        self.governor = Governor(GovernorSettings(**settings), self.cadence, self.counters)  # type: ignore[arg-type]
        self.step_s = step_s
        self.thread_s = self.publisher_s = self.transport_s = 0.0
        self.idle_s = 0.0
        self.lump_s = 5.0  # the transport's CPU is reported so often
        self.step = 0
        self.wall = 0.0
        self.sampled: list[int] = []
        self.missed: list[int] = []
        self._kept = self._lumped = 0.0

    def run(self, steps: int) -> Job:
        for _ in range(steps):
            self._one()
        return self

    def _one(self) -> None:
        self.wall += self.step_s + self.idle_s
        self.counters.add("steps")
        self.counters.add("step_seconds", value=self.step_s)
        if self.wall - self._lumped >= self.lump_s:
            self.counters.add("transport_cpu_seconds", value=self._kept)
            self._lumped, self._kept = self.wall, 0.0
        if self.cadence.samples(self.step):
            self.sampled.append(self.step)
            self._kept += self.transport_s
            self.counters.add("publisher_cpu_seconds", value=self.publisher_s)
            self.governor.sampled(self.step, self.thread_s, self.governor.totals(self.wall))
        elif self.cadence.is_missed(self.step):
            self.missed.append(self.step)
        self.step += 1

    @property
    def level(self) -> int:
        return self.cadence.at(self.step)[0]

    def count(self, name: str, reason: str = "") -> float:
        return self.counters.snapshot().get((name, reason), 0.0)


def test_what_costs_little_enough_stays_at_the_base_level() -> None:
    job = Job(4, 0.5)
    job.thread_s = 0.003 * 16 * 0.5
    job.run(4000)
    assert job.level == 4
    assert job.governor.overhead == pytest.approx(0.003)
    assert job.count("level_changes", "raised") == 0
    assert job.missed == []


def test_a_breach_of_the_target_raises_by_one_at_an_aligned_step_and_misses_nothing() -> None:
    job = Job(4, 0.5)
    job.thread_s = 0.008 * 16 * 0.5
    job.run(1000)
    assert (job.level, job.missed) == (5, [])
    changed = next(b for a, b in zip(job.sampled, job.sampled[1:], strict=False) if b - a == 32)
    assert (changed - 32) % 32 == 0
    assert job.governor.overhead == pytest.approx(0.004, rel=0.01)
    assert job.count("governor_breaches", "target") == job.count("level_changes", "raised") == 1


def test_a_hard_breach_stops_sampling_until_the_new_level_begins() -> None:
    job = Job(2, 0.1)
    job.thread_s = 0.0004 * 4  # 0.4 %
    job.run(4 * 20 + 1)
    job.thread_s *= 40
    job.run(4000)
    assert job.count("governor_breaches", "hard") >= 1
    assert job.missed, "an expected step lies between some change and the step it was decided at"
    for step in job.missed:
        later = next(s for s in job.sampled if s > step)
        level, since = job.cadence.at(later)
        assert step < later
        assert later % (1 << level) == 0 or since <= later
    assert job.governor.overhead <= 0.005


def test_the_cost_of_the_background_counts_though_it_comes_in_lumps() -> None:
    job = Job(0, 0.02)  # 250 samples a lump
    job.publisher_s = 0.001 * 0.02
    job.transport_s = 0.002 * 0.02
    job.run(5000)
    assert job.level == 0
    assert job.governor.overhead == pytest.approx(0.003, rel=0.1)
    job.transport_s = 0.012 * 0.02
    job.run(60_000)
    assert job.level == 2
    assert job.count("level_changes", "raised") <= 3


def test_the_first_samples_do_not_count() -> None:
    job = Job(4, 0.5)
    job.thread_s = 10.0
    job.run(16 * (WARMUP_SAMPLES - 1) + 1)
    job.thread_s = 0.001
    job.run(4000)
    assert job.count("level_changes", "raised") == 0


def test_long_calm_lowers_again_but_never_below_the_base_level() -> None:
    job = Job(3, 0.1, calm_samples=5)
    job.thread_s = 0.05 * 8 * 0.1
    job.run(4000)
    assert job.level == 7
    job.thread_s = 0.0001 * 8 * 0.1
    job.run(128 * 60)
    assert job.level == 3
    assert job.count("level_changes", "lowered") == 4
    assert job.cadence.level == 3


def test_the_level_does_not_swing_where_half_the_interval_would_cost_too_much() -> None:
    job = Job(4, 0.5, calm_samples=5)
    job.thread_s = 0.006 * 16 * 0.5  # 0.6 % at level 4, 0.3 % at level 5
    job.run(20_000)
    assert job.level == 5
    assert job.count("level_changes", "raised") == 1
    assert job.count("level_changes", "lowered") == 0


def test_the_floor_is_kept_whatever_it_costs() -> None:
    job = Job(0, 1e-4, level_high=6)
    job.thread_s = 0.05
    job.run(5000)
    assert job.level == 6
    since = job.cadence.at(job.step)[1]
    assert [s for s in job.sampled if s >= since] == list(range(since, 5000, 64))
    assert job.count("governor_breaches", "hard") > 6


def test_a_command_holds_against_calm_and_gives_way_to_a_breach() -> None:
    job = Job(2, 0.1, calm_samples=5)
    job.thread_s = 1e-5
    job.run(100)
    job.cadence.change(5, job.step)
    job.run(2000)
    assert job.level == 5, "calm never undoes a command"
    job.thread_s = 0.008 * 32 * 0.1
    job.run(2000)
    assert (job.level, job.cadence.commanded) == (6, 5)
    job.cadence.change(2, job.step)
    job.run(64)
    assert job.level == 6, "a finer command does not undo a breach"
    job.thread_s = 1e-5
    job.run(4000)
    assert job.level == 2


def test_a_coarser_command_wins_over_the_governor() -> None:
    job = Job(2, 0.1)
    job.thread_s = 0.008 * 4 * 0.1
    job.run(200)
    assert job.level == 3
    job.cadence.change(6, job.step)
    job.run(200)
    assert job.level == 6


def test_an_evaluation_between_steps_is_not_the_cost_of_steps() -> None:
    job = Job(4, 0.1)
    job.thread_s = 0.001 * 16 * 0.1
    job.run(2000)
    job.counters.add("publisher_cpu_seconds", value=3.0)  # heartbeats of half an hour
    job.wall += 1800.0
    job.run(2000)
    assert job.count("level_changes", "raised") == 0


def test_the_counters_tell_the_mean_level() -> None:
    job = Job(4, 0.5)
    job.thread_s = 0.001
    job.run(1601)
    assert job.count("level_steps") == 4 * job.count("steps")


def _costs(job: Job, phase: int) -> None:
    job.thread_s = (0.02, 1e-6, 0.02)[phase % 3]


@pytest.mark.parametrize("vary", [_costs, lambda job, phase: _costs(job, phase + 1)])
def test_the_collector_expects_what_is_sampled_or_counted_as_missed(
    vary: Callable[[Job, int], None],
) -> None:
    job, roster = Job(1, 0.05, calm_samples=2, level_high=6), Roster(1)
    job.step, seen = 2, 0  # from a checkpoint, so that decisions fall on steps that need a wait
    for phase in range(6):
        vary(job, phase)
        for _ in range(3001):
            job.run(1)
            if len(job.sampled) > seen:
                seen = len(job.sampled)
                level, since = job.cadence.at(job.sampled[-1])
                sender = pb.Sender(index=0, count=1, first_step=2, level=level, level_since=since)
                roster.learn(sender)
    assert job.missed
    assert job.count("level_changes", "lowered") > 0
    width = 128
    for first in range(0, job.step - width, width):
        window = range(first, first + width)
        known = [s for s in (*job.sampled, *job.missed) if s in window]
        assert roster.expected(first, first + width - 1) == len(known)


def test_decisions_wait_until_a_change_has_settled() -> None:
    job = Job(0, 0.01, level_high=12)
    job.thread_s = 0.00035
    job.run(20_000)
    raised = job.count("level_changes", "raised")
    assert job.level == raised == 3
    assert len(job.sampled) > SETTLE_SAMPLES * raised


def test_a_real_loop_is_throttled_and_every_missing_record_is_counted(
    make_loop: Callable[..., Any],
) -> None:
    loop = make_loop(
        **{
            "governor.enabled": True,
            "governor.target_ratio": 1e-5,  # no agent is so cheap beside a toy
            "governor.hard_ratio": 1e-5,
            "governor.level_high": 3,
        },
        first_step=1,  # so that decisions fall on steps that need a wait
    )
    steps = 120
    for _ in range(steps):
        loop.step()
    records = loop.records("agent")
    stats = loop.monitor.stats()
    sampled = [record.step for record in records]
    assert sampled[-1] - sampled[-2] == 8
    assert records[-1].sender.level == 3
    assert stats["level_changes{raised}"] == 3
    roster = Roster(0)
    for record in records:
        roster.learn(record.sender)
    missed = roster.expected(0, sampled[-1]) - len(sampled)
    assert missed > 0
    assert stats["records_dropped{budget}"] == missed * len(loop.monitor.units)
    assert stats["sampled_steps"] == len(sampled)


def test_switched_off_it_lets_everything_through(make_loop: Callable[..., Any]) -> None:
    loop = make_loop(**{"governor.target_ratio": 1e-5})
    for _ in range(40):
        loop.step()
    assert [record.step for record in loop.records("agent")] == list(range(40))
    assert "level_changes{raised}" not in loop.monitor.stats()
