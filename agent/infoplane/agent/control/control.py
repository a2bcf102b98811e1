"""One rank's control: agree, make the line, then look at it every few steps.

boundary(step) is called at the end of every optimizer step, paused or not, breaker or not:

    agreeing    read one attribute of the agreement
    beginning   make the gloo group, with all ranks, at the agreed step
    running     one boundary posts rank 0's next command, or nothing; the next one collects it, and
                all ranks act on it before their next step
    leaving     detached, but one beat is under way, and the others will act on it: so does this rank
    over        nothing
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infoplane.agent import rendezvous
from infoplane.agent.cadence import Cadence
from infoplane.agent.control.actions import Actions
from infoplane.agent.control.agreement import Agreement, Answer
from infoplane.agent.control.audit import Audit
from infoplane.agent.control.ballot import Ballot
from infoplane.agent.control.gate import Gate, Rules, Situation
from infoplane.agent.control.group import Alone, Gloo, Line
from infoplane.agent.control.inbox import Inbox
from infoplane.agent.control.means import Means, allowed_actions, fingerprint, run_bounds
from infoplane.agent.control.reader import CommandSource, KafkaSource
from infoplane.agent.counters import Counters
from infoplane.agent.identity import Identity
from infoplane.agent.outbox import Parcel
from infoplane.agent.settings import Settings
from infoplane.wire import ConfigurationError
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.actions import ACTIONS
from infoplane.wire.commands import KeyRing

CLOSE_S: Final = 1.0
_attached: Final[Counter[str]] = Counter()
_log = logging.getLogger("infoplane.agent")


@dataclass(frozen=True, slots=True)
class Setup:
    """What control is made of.

    Attributes:
        store: the rendezvous store; None where there is none.
        source: of commands, instead of the one that the settings name.
        last_step: the last finished step.
    """

    identity: Identity
    settings: Settings
    means: Means
    cadence: Cadence
    counters: Counters
    store: Any = None
    source: CommandSource | None = None
    last_step: int = -1


class Control:
    """Everything between a signed command and the run. No method raises, none waits without a bound."""

    def __init__(self, setup: Setup, offer: Callable[[Parcel], bool]) -> None:
        self._setup = setup
        self._at = setup.identity.coordinates
        prefix = setup.settings.kafka.topic_prefix
        self._audit = Audit(setup.identity, prefix, setup.counters, offer)
        self._actions = Actions(setup.means, setup.cadence, self._audit)
        self._step = setup.last_step
        self._pid = os.getpid()
        self._prefix = ""
        self._agreement: Agreement | None = None
        self._source: CommandSource | None = None
        self._inbox: Inbox | None = None
        self._line: Line | None = None
        self._posted: bytes | None = None  # None: nothing is on its way
        self._arrived: bytes | None = None  # collected while leaving, before its boundary
        self._boundaries = 0
        self._is_leaving = False
        self._is_over = False

    @property
    def is_running(self) -> bool:
        """Return whether commands reach this rank."""
        return self._line is not None and not self._is_over

    @property
    def needs_boundary(self) -> bool:
        """Return whether `boundary` has anything to do; it may have, once or twice, even after `close`."""
        return not self._is_over or self._actions.is_unseen

    @property
    def should_stop(self) -> bool:
        """Return whether a command asked the training loop to end."""
        return self._actions.should_stop

    @property
    def learning_rate_factor(self) -> float:
        """Return the factor in force."""
        return self._actions.learning_rate_factor

    def start(self) -> None:
        """Begin to agree, in a thread; alone in the world, begin at once. Returns at once."""
        is_on, is_shared = self._setup.settings.control.enabled, self._at.world > 1
        obstacle = self._open_inbox() if is_on and self._at.rank == 0 else ""
        if is_shared and self._setup.store is None:
            obstacle = "torch.distributed is not initialised, so ranks cannot agree"
        if is_shared and self._setup.store is not None:
            self._agree(is_on=is_on, obstacle=obstacle)
        elif is_on and obstacle:
            self._refuse(obstacle)
        elif is_on:
            self._line = Alone()
            _log.warning("infoplane: control is on")
        atexit.register(_close_at_exit, weakref.ref(self))

    def boundary(self, step: int) -> float:
        """End step `step`; return the seconds that went into checkpoints."""
        self._step = step
        before = self._actions.seconds
        try:
            self._actions.settle(step)
            if self._is_over:
                return 0.0
            if self._line is None:
                self._ask(step)
            if self._line is not None:
                self._beat(self._line, step)
        except Exception as error:  # noqa: BLE001 - training goes on
            self._break_off(error)
        return self._actions.seconds - before

    def close(self, *, is_last: bool = False) -> None:
        """End control on this rank, and soon on the others; takes 2 s at most. Idempotent.

        A command that is under way will be obeyed by the other ranks at their next boundary. If
        this rank trains on, it must do the same: until then, `needs_boundary` is true. `is_last`
        says that there is no next boundary. A factor on the learning rate stays in force.
        """
        if os.getpid() != self._pid or (self._is_leaving and not is_last):
            return
        self._stop_reading(CLOSE_S)
        if self._agreement is not None:
            agreement, self._agreement = self._agreement, None
            agreement.stop(f"rank {self._at.rank} detached")
        if not is_last and self._at.world > 1 and self._is_awaited():
            self._is_leaving = True
        elif not self._is_over:
            self._end("control ended before the command was applied", CLOSE_S)
            self._actions.close(self._step)

    def _is_awaited(self) -> bool:
        """Return whether a command is under way, or may be."""
        if self._line is None or self._posted is None:
            return False
        try:
            self._arrived = self._line.collect(CLOSE_S)
        except RuntimeError:
            return True
        return bool(self._arrived)

    # ---------------------------------------------------------------- beginning

    def _open_inbox(self) -> str:
        """Rank 0: make ready to read commands; return why not, or an empty text."""
        setup, control = self._setup, self._setup.settings.control
        actions = allowed_actions(setup.settings)
        if unknown := sorted(actions - ACTIONS.keys()):
            return f"control.actions names {', '.join(unknown)}; there is {', '.join(ACTIONS)}"
        try:
            paths = [Path(one.strip()) for one in control.public_keys.split(",") if one.strip()]
            keys = KeyRing.of_files(paths)
        except (ConfigurationError, ImportError) as error:
            return str(error)
        if not keys.keys:
            return "control.public_keys names no key, so nobody could command"
        if setup.source is None and setup.settings.transport != "kafka":
            return f"it needs transport kafka, not {setup.settings.transport}: commands come from there"
        identity = setup.identity
        rules = Rules(identity.run, identity.attempt, keys, actions, run_bounds(setup.settings))
        self._inbox = Inbox(Gate(rules), self._audit)
        self._source = setup.source or KafkaSource(setup.settings.kafka, identity.run)
        self._source.start(self._inbox.deliver)
        return ""

    def _agree(self, *, is_on: bool, obstacle: str) -> None:
        setup, control = self._setup, self._setup.settings.control
        # By restart and attach: an elastic restart keeps the store, and engines may follow each other.
        run, attempt = setup.identity.run, setup.identity.attempt
        place = f"{rendezvous.PREFIX}/control/{run}/{attempt}/{rendezvous.restart()}"
        self._prefix = f"{place}/{_attached[place]}"
        _attached[place] += 1
        mark = fingerprint(setup.settings, setup.means) if is_on else ""
        self._is_over = not is_on
        self._agreement = Agreement(
            Ballot(setup.store, self._prefix, mark),
            self._at.rank,
            self._at.world,
            timeout_s=control.agree_timeout_s,
            wait_s=control.wait_s,
            step=self._step,
            obstacle=obstacle,
        )
        self._agreement.start()

    def _ask(self, step: int) -> None:
        answer = self._agreement.at(step) if self._agreement is not None else Answer.OFF
        if answer is Answer.OFF:
            self._end("control is refused")
        elif answer is Answer.BEGIN:
            self._agreement = None
            wait_s = self._setup.settings.control.wait_s
            self._line = Gloo(
                self._setup.store, self._prefix, self._at.rank, self._at.world, wait_s
            )
            _log.warning("infoplane: control is on from step %d", step + 1)

    # ---------------------------------------------------------------- running

    def _beat(self, line: Line, step: int) -> None:
        control = self._setup.settings.control
        if self._posted is not None:
            payload = line.collect(control.wait_s) if self._arrived is None else self._arrived
            self._posted = self._arrived = None
            if payload:
                self._act(payload, step + 1)
        if self._is_leaving:
            self._end("detached")
            return
        if self._boundaries % control.every_steps == 0:
            payload = self._next(step)
            line.post(payload)
            self._posted = payload
        self._boundaries += 1

    def _next(self, step: int) -> bytes:
        if self._inbox is None:
            return b""
        self._inbox.step = step
        able = self._setup.means.able
        return self._inbox.next(Situation(step, self._actions.in_force, able))

    def _act(self, payload: bytes, first_step: int) -> None:
        command = pb.Command.FromString(payload)
        _log.warning(
            "infoplane: %s = %g from step %d on, by command %s",
            command.action, command.value, first_step, command.id,
        )  # fmt: skip
        self._actions.apply(command, first_step)

    # ---------------------------------------------------------------- ending

    def _refuse(self, why: str) -> None:
        _log.error("infoplane: control is refused: %s; training goes on without it", why)
        self._end("control is refused")

    def _break_off(self, error: Exception) -> None:
        self._setup.counters.add("control_breaks", type(error).__name__)
        # Gloo's texts begin with a place in its source and end with advice.
        text = re.sub(r"^\[[^\]]*\] *", "", str(error)).split(". ")[0][:200]
        _log.error(
            "infoplane: control ended after step %d, a rank left or did not answer within control.wait_s (%s); "
            "what is in force stays, training goes on",
            self._step, text,
        )  # fmt: skip
        self._end(f"control ended: {text}")

    def _stop_reading(self, timeout_s: float) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close(timeout_s)

    def _end(self, why: str, timeout_s: float = 0.0) -> None:
        """Stop reading and carrying commands, and report those that were lost; `timeout_s` for each."""
        self._is_over = True
        self._stop_reading(timeout_s)
        line, self._line = self._line, None
        if line is not None:
            line.close(timeout_s)
        lost = [pb.Command.FromString(self._posted)] if self._posted and self._inbox else []
        self._posted = None
        if self._inbox is not None:
            lost += self._inbox.drain()
        for command in lost:
            self._actions.fail(command, self._step, why)


def _close_at_exit(reference: weakref.ref[Control]) -> None:
    control = reference()
    if control is not None:
        control.close(is_last=True)
