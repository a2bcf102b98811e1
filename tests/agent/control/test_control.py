"""One process from the signed command to the trail: attach, train, command."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from every_step import EVERY_STEP
from torch import nn

from infoplane.agent import Monitor, attach, session
from infoplane.agent.control import MemorySource, actions
from infoplane.collector.assemble.roster import Roster
from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.commands import Sign

MakeCommand = Callable[..., pb.Command]


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


class Loop:
    """A plain loop that obeys."""

    def __init__(self, key_folder: Path, **keywords: Any) -> None:
        torch.manual_seed(0)
        self.model = Model()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.source = MemorySource()
        self.saved: list[int] = []
        self.steps = 0
        config = {
            **EVERY_STEP, "attempt": 7, "sampling.width": 4, "control.enabled": True, "control.every_steps": 2,
            "control.public_keys": str(key_folder / "control.pub"),
        }  # fmt: skip
        given = {
            "optimizers": [self.optimizer],
            "on_checkpoint": self.saved.append,
            "commands": self.source,
        }
        config |= keywords.pop("config", {})
        self.monitor: Monitor = attach(self.model, config=config, **given | keywords)

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.model(torch.ones(2, 3, 4)).square().mean().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.monitor.step()
            self.steps += 1
            if self.monitor.should_stop:
                return

    def sent(self, kind: type[Any], topic: str) -> list[Any]:
        self.monitor.close()
        return [decode(m.value, kind) for m in self.monitor.messages if m.topic.endswith(topic)]

    def audit(self) -> list[pb.AuditEntry]:
        return self.sent(pb.AuditEntry, "audit")


@pytest.fixture
def make_loop(key_folder: Path) -> Iterator[Callable[..., Loop]]:
    made: list[Loop] = []

    def make(**keywords: Any) -> Loop:
        made.append(Loop(key_folder, **keywords))
        return made[-1]

    yield make
    for loop in made:
        loop.monitor.close()


def details(entry: pb.AuditEntry) -> dict[str, str]:
    return {one.name: one.value for one in entry.details}


def test_a_factor_is_applied_and_read_back(
    make_loop: Callable[..., Loop], sign: Sign, make_command: MakeCommand
) -> None:
    loop = make_loop()
    loop.train(4)
    assert loop.monitor.learning_rate_factor == 1.0
    loop.source.put(sign(make_command("cut")))
    loop.train(6)
    assert loop.monitor.learning_rate_factor == 0.5
    assert loop.optimizer.param_groups[0]["lr"] == 0.1
    (entry,) = loop.audit()
    assert (entry.stage, entry.actor, entry.rank) == ("applied", "agent", 0)
    # Posted at the boundary of step 4, acted on at that of step 5.
    assert entry.step == 6
    assert details(entry)["learning_rate_before"] == "0.1"
    assert details(entry)["learning_rate_after"] == "0.05"


def test_commands_are_obeyed_while_paused_and_in_order(
    make_loop: Callable[..., Loop], sign: Sign, make_command: MakeCommand
) -> None:
    loop = make_loop()
    loop.monitor.pause()
    loop.source.put(sign(make_command("a", action="checkpoint", value=0)))
    loop.source.put(sign(make_command("b", action="stop", value=0)))
    loop.train(20)
    assert loop.saved == [2]
    assert loop.steps == 4
    assert [(e.action, e.stage, e.step) for e in loop.audit()] == [
        ("checkpoint", "applied", 2),
        ("stop", "applied", 4),
    ]


def test_a_level_reaches_the_records_and_the_collector_expects_them(
    make_loop: Callable[..., Loop], sign: Sign, make_command: MakeCommand
) -> None:
    loop = make_loop()
    loop.train(3)
    loop.source.put(sign(make_command("level", action="sampling_level", value=3)))
    loop.train(29)
    records = [r for r in loop.sent(pb.Record, "records") if r.unit == "scalars"]
    roster, present = Roster(0), set()
    for record in records:
        roster.learn(record.sender)
        if record.WhichOneof("body") == "scalars":
            present.add(record.step)
    assert sorted(present) == [*range(8), 8, 16, 24]
    for first in range(0, 32, 4):
        assert roster.expected(first, first + 3) == len(present & {*range(first, first + 4)})
    (entry,) = [e for e in loop.audit() if e.action == "sampling_level"]
    assert (entry.step, details(entry)) == (8, {"level_before": "0", "level_after": "3"})


def test_an_action_that_fails_is_audited_with_its_error(
    make_loop: Callable[..., Loop], sign: Sign, make_command: MakeCommand
) -> None:
    def fail(step: int) -> None:
        raise OSError("disk full")

    loop = make_loop(on_checkpoint=fail)
    loop.source.put(sign(make_command(action="checkpoint", value=0)))
    loop.train(6)
    (entry,) = loop.audit()
    assert (entry.stage, entry.reason) == ("failed", "unsupported")
    assert "disk full" in details(entry)["error"]


def test_time_in_a_checkpoint_is_not_the_agents(
    make_loop: Callable[..., Loop],
    sign: Sign,
    make_command: MakeCommand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a clock that an hour passes on while the checkpoint is written."""
    hours = 0

    def clock() -> float:
        return time.perf_counter() + 3600.0 * hours

    def write(step: int) -> None:
        nonlocal hours
        hours += 1

    monkeypatch.setattr(actions, "perf_counter", clock)
    monkeypatch.setattr(session, "perf_counter", clock)
    loop = make_loop(on_checkpoint=write)
    loop.source.put(sign(make_command(action="checkpoint", value=0)))
    loop.train(6)
    assert len(loop.audit()) == 1
    assert hours == 1
    assert loop.monitor.stats()["hook_seconds"] < 1800


def test_what_the_run_cannot_do_is_refused(
    make_loop: Callable[..., Loop], sign: Sign, make_command: MakeCommand
) -> None:
    loop = make_loop(optimizers=[], on_checkpoint=None)
    loop.source.put(sign(make_command("a")))
    loop.source.put(sign(make_command("b", action="checkpoint", value=0)))
    loop.train(6)
    assert [entry.reason for entry in loop.audit()] == ["unsupported"] * 2


def test_a_command_that_was_not_applied_in_time_is_told(
    make_loop: Callable[..., Loop], sign: Sign, make_command: MakeCommand
) -> None:
    loop = make_loop()
    loop.train(2)
    loop.source.put(sign(make_command("late")))
    (entry,) = loop.audit()
    assert entry.stage == "failed"
    assert "ended before" in details(entry)["error"]


@pytest.mark.parametrize(
    ("config", "keywords", "word"),
    [
        ({"control.public_keys": ""}, {}, "names no key"),
        ({"control.public_keys": "/nowhere/control.pub"}, {}, "/nowhere/control.pub"),
        ({"control.actions": "stop,format_disk"}, {}, "format_disk"),
        ({}, {"commands": None}, "needs transport kafka, not memory"),
    ],
)
def test_control_that_could_not_work_is_refused_loudly(
    make_loop: Callable[..., Loop],
    caplog: pytest.LogCaptureFixture,
    config: dict[str, Any],
    keywords: dict[str, Any],
    word: str,
) -> None:
    with caplog.at_level(logging.ERROR, "infoplane.agent"):
        loop = make_loop(config=config, **keywords)
    loop.train(5)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "control is refused" in line
    assert word in line
    assert loop.monitor.enabled


def test_off_means_that_nothing_is_there(make_loop: Callable[..., Loop]) -> None:
    loop = make_loop(config={"control.enabled": False})
    assert loop.monitor._session is not None
    assert loop.monitor._session.control is None
    assert loop.monitor.learning_rate_factor == 1.0
    assert not loop.monitor.should_stop


def test_a_factor_outlives_detach(
    make_loop: Callable[..., Loop], sign: Sign, make_command: MakeCommand
) -> None:
    """The other ranks keep theirs, and rates that differ between ranks are worse than any rate."""
    loop = make_loop()
    loop.source.put(sign(make_command("cut", value=0.25)))
    loop.train(6)
    loop.monitor.detach()
    inside: list[float] = []
    hook = loop.optimizer._optimizer_step_post_hooks
    hook[-1] = lambda optimizer, *_: inside.append(optimizer.param_groups[0]["lr"])
    hook.move_to_end(-1, last=False)
    loop.train(3)
    assert inside == [0.025] * 3
