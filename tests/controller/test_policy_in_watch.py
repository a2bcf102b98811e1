"""The policy inside WATCH: a crash at any place repeats no command with other bytes, and forgets none."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from infoplane.collector.drivers.memos import collect_saved
from infoplane.collector.drivers.partition import Partition
from infoplane.collector.drivers.replay import entry_of
from infoplane.collector.stage import Emission, Stage
from infoplane.controller.policy import Policy, PolicyEngine
from infoplane.controller.watch import WatchSettings, watch_stage
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.commands import KeyRing, create_keys, signer
from infoplane.wire.log import LogEntry
from infoplane.wire.topics import AUDIT, CONTROL, RESULTS, VERDICTS, Names, run_key

ENTROPY = "von_neumann_entropy_nats"
TAPS = ("00/block", "01/block", "02/block")
WINDOWS = 24
POLICY = Policy.model_validate(
    {
        "version": 1,
        "mode": "enforce",
        "rules": [
            {
                "name": "moved",
                "when": {"verdict": {"detector": "change"}},
                "action": "learning_rate_factor",
                "value": 0.1,
            },
            {
                "name": "broken",
                "when": {"verdict": {"severity": "critical"}},
                "action": "checkpoint",
            },
            {
                "name": "low",
                "when": {"metric": "policy_entropy_nats", "below": 1.0, "agree": 2, "of": 3},
                "action": "sampling_level",
                "value": 2,
                "cooldown_windows": 3,
                "budget": 2,
            },
        ],
    }
)


def result(window: int, metric: str, value: float, **labels: str) -> pb.Result:
    return pb.Result(
        run="r",
        attempt=1,
        window=window,
        pane=pb.Pane(kind=pb.FINAL),
        first_step=8 * window,
        last_step=8 * window + 7,
        clock_ms=1_000 * window + 1,
        metric=metric,
        labels=[pb.Label(name=k, value=v) for k, v in sorted(labels.items())],
        value=value,
        n=1000,
        completeness=1.0,
        undefined="" if math.isfinite(value) else "nan",
    )


def results(completeness: float = 1.0) -> Iterator[pb.Result]:
    """A quiet run; from window 12 on its entropy falls, the policy's too from 15 to 17 and from 20 on; NaN at 22."""
    generator = np.random.default_rng(3)
    for window in range(WINDOWS):
        for layer, tap in enumerate(TAPS):
            fall = 0.3 * max(0, window - 11)
            value = 3.0 + 0.1 * layer - fall + 0.01 * generator.normal()
            one = result(window, ENTROPY, value, tap=tap, layer=tap[:2])
            one.completeness = completeness
            yield one
        is_low = 15 <= window <= 17 or window >= 20
        yield result(window, "policy_entropy_nats", 0.5 if is_low else 2.0)
        yield result(window, "token_surprisal_nats", math.nan if window >= 22 else 2.0)


def entries(stream: Iterator[pb.Result]) -> list[LogEntry]:
    return [
        entry_of(Emission(RESULTS, run_key("r"), one), Names(), place)
        for place, one in enumerate(stream)
    ]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return create_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def stage(keys: tuple[Path, Path]) -> Stage[pb.Result]:
    return watch_stage(
        WatchSettings(warmup_windows=7), partial(PolicyEngine, POLICY, signer(keys[0]))
    )


def fed(partition: Partition[pb.Result], log: list[LogEntry]) -> list[Emission]:
    """Feed a log, with the idle ticks of a live reader: they move the machine's clock to the wall clock."""
    found: list[Emission] = []
    for entry in log:
        found += partition.feed(entry)
        found += partition.idle(entry.timestamp_ms + 400_000 + 7 * entry.offset)
    return found


def bytes_of(emissions: list[Emission]) -> dict[tuple[str, str, str], bytes]:
    """Return (topic, id, stage) -> bytes of everything that the policy emitted; one id never has two forms."""
    found: dict[tuple[str, str, str], bytes] = {}
    for emission in emissions:
        message = emission.message
        if isinstance(message, pb.SignedCommand):
            key = ("control", pb.Command.FromString(message.command).id, "")
        elif isinstance(message, pb.AuditEntry):
            key = ("audit", message.id, message.stage)
        else:
            continue
        data = message.SerializeToString(deterministic=True)
        assert found.setdefault(key, data) == data
    return found


def test_what_an_undisturbed_controller_does(
    stage: Stage[pb.Result], keys: tuple[Path, Path]
) -> None:
    emissions = fed(Partition(stage, 0), entries(results()))
    ring = KeyRing.of_files([keys[1]])
    commands = [ring.open(e.message) for e in emissions if e.topic is CONTROL]
    assert [(c.id, c.action) for c in commands] == [
        ("r/1/moved/13", "learning_rate_factor"),
        ("r/1/low/16", "sampling_level"),
        ("r/1/low/21", "sampling_level"),
        ("r/1/broken/22", "checkpoint"),
    ]
    # A command is issued on the log's clock, so one that is late by the wall clock is refused as expired.
    assert [c.issued_ms for c in commands] == [13_001, 16_001, 21_001, 22_001]
    said = [e.topic.name for e in emissions if e.topic in (VERDICTS, AUDIT, CONTROL)]
    assert said[:4] == ["verdicts", "audit", "control", "audit"]


@pytest.mark.parametrize(("unsaved", "uncommitted"), [(0, 0), (1, 0), (0, 100_000), (23, 40)])
def test_a_crash_at_any_place_repeats_itself_exactly_or_says_nothing(
    stage: Stage[pb.Result], unsaved: int, uncommitted: int
) -> None:
    """Killed at every place, with the state saved some messages before, and the offset committed before that."""
    log = entries(results())
    wanted = bytes_of(fed(Partition(stage, 0), log))
    assert len(wanted) == 4 * 3
    first = Partition(stage, 0)
    before: list[list[Emission]] = []
    states: list[list[pb.StageState]] = []
    newest: list[pb.StageState] = []
    for entry in log:
        newest = [e.message for e in first.save()] or newest
        states.append(newest)
        before.append(fed(first, [entry]))
    for stop in range(len(log)):
        saved_at = max(0, stop - unsaved)
        second = Partition(stage, 0, collect_saved(states[saved_at]))
        again = fed(second, log[max(0, saved_at - uncommitted) :])
        earlier = [emission for one in before[:stop] for emission in one]
        assert bytes_of(earlier + again) == wanted, stop


def test_incomplete_windows_give_a_verdict_and_no_command(stage: Stage[pb.Result]) -> None:
    emissions = fed(Partition(stage, 0), entries(results(completeness=0.5)))
    assert any(e.message.detector == "change" for e in emissions if e.topic is VERDICTS)
    assert not [e for e in emissions if e.topic is AUDIT and e.message.rule == "moved"]


def test_a_new_attempt_has_its_own_budget(stage: Stage[pb.Result]) -> None:
    second = []
    for one in results():
        one.attempt = 2
        second.append(one)
    emissions = fed(Partition(stage, 0), entries(iter([*results(), *second])))
    ids = [e.message.id for e in emissions if e.topic is AUDIT and e.message.stage == "sent"]
    assert [one.partition("/")[2][:2] for one in ids] == ["1/"] * 4 + ["2/"] * 4


def test_a_controller_without_policy_keeps_what_one_remembered(stage: Stage[pb.Result]) -> None:
    log = entries(results())
    first = Partition(stage, 0)
    fed(first, log[:80])
    saved = collect_saved(e.message for e in first.save())
    without = Partition(watch_stage(WatchSettings(warmup_windows=7)), 0, saved)
    fed(without, log[80:90])
    kept = collect_saved(e.message for e in without.save())
    third = Partition(stage, 0, kept)
    ids = [e.message.id for e in fed(third, log) if e.topic is AUDIT]
    assert "r/1/moved/13" not in ids
