"""The checks that a command passes on rank 0, in this order; the first that fails is the reason.

    unsigned key signature malformed   before anything of it is believed
    run attempt expired replayed       is it meant for us, now, for the first time?
    action bounds                      may anybody ask for this?
    precondition unsupported           does it fit the run as it is? (when its turn comes)

Every refusal is a CommandError whose reason is one of infoplane.wire.commands.REFUSALS.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.actions import ACTIONS
from infoplane.wire.commands import CommandError, KeyRing

REMEMBERED: Final = 100_000


def wall_clock_ms() -> int:
    """Return Unix milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Rules:
    """What this run accepts.

    Attributes:
        actions: names of the actions that the run allows.
        bounds: the run's own bounds of a value, by action.
    """

    run: str
    attempt: int
    keys: KeyRing
    actions: frozenset[str]
    bounds: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Situation:
    """The run as it is when a command's turn comes.

    Attributes:
        step: the last finished step.
        in_force: value in force by action; events have none.
        able: actions that the run has the means for.
    """

    step: int
    in_force: Mapping[str, float]
    able: frozenset[str]


@dataclass(slots=True)
class Gate:
    """Pure checks with one memory: the ids and nonces of commands that were meant for this attempt.

    The memory is bounded, the oldest are forgotten first. That is safe because commands expire:
    whoever wants to replay a forgotten one needs `remembered` newer commands with valid signatures
    within its lifetime.
    """

    rules: Rules
    clock_ms: Callable[[], int] = wall_clock_ms
    remembered: int = REMEMBERED
    _seen: OrderedDict[str | bytes, None] = field(default_factory=OrderedDict)

    def open(self, signed: pb.SignedCommand) -> pb.Command:
        """Return the command inside `signed`, checked as far as the run's state does not matter.

        Raises:
            CommandError: with the reason.
        """
        command = self.rules.keys.open(signed)
        self.check(command)
        return command

    def check(self, command: pb.Command) -> None:
        """Check everything of an authentic command up to its bounds; raises CommandError."""
        if command.run != self.rules.run:
            raise CommandError("run", command.run[:64])
        if command.attempt != self.rules.attempt:
            raise CommandError("attempt", str(command.attempt))
        self.check_expiry(command)
        self._note(command)
        if command.action not in self.rules.actions or command.action not in ACTIONS:
            raise CommandError("action", command.action[:64])
        if not self._is_within_bounds(command):
            raise CommandError("bounds", f"{command.value:g}")

    def admit(self, command: pb.Command, now: Situation) -> None:
        """Check whether the run is as `command` expects it; raises CommandError."""
        self.check_expiry(command)  # it may have waited
        if command.HasField("first_step") and now.step < command.first_step:
            raise CommandError("precondition", f"step {now.step} < {command.first_step}")
        if command.HasField("last_step") and now.step > command.last_step:
            raise CommandError("precondition", f"step {now.step} > {command.last_step}")
        if command.HasField("if_value"):
            value = now.in_force.get(command.action)
            if value != command.if_value:
                raise CommandError("precondition", f"in force: {value}, not {command.if_value:g}")
        if command.action not in now.able:
            raise CommandError("unsupported", command.action)

    def check_expiry(self, command: pb.Command) -> None:
        """Raise CommandError if `command` is too old to be obeyed."""
        late_ms = self.clock_ms() - command.expires_ms
        if late_ms > 0:
            raise CommandError("expired", f"by {late_ms} ms")

    def _note(self, command: pb.Command) -> None:
        names: tuple[str | bytes, ...] = (command.id, command.nonce)
        if any(name in self._seen for name in names):
            raise CommandError("replayed", command.id[:64])
        self._seen.update(dict.fromkeys(names))
        while len(self._seen) > 2 * self.remembered:
            self._seen.popitem(last=False)

    def _is_within_bounds(self, command: pb.Command) -> bool:
        # Written so that NaN fails every comparison.
        low, high = self.rules.bounds.get(command.action, (float("-inf"), float("inf")))
        return (
            ACTIONS[command.action].allows(command.value)
            and command.low <= command.value <= command.high
            and low <= command.value <= high
        )
