"""How ranks agree that all of them have control on, and at which step it begins.

    every rank     announces `on` with a fingerprint of its settings, or `off`
    any difference control is refused on all ranks
    all alike      rank 0 proposes a step S in the future; every rank votes whether S is still ahead
    all ready      rank 0 decides `go`; all ranks make the group at the boundary of S
    somebody late  `no`, and a later S, three times at most

It runs in a thread of its own and ends with the agreement. The training thread reads attributes;
only at S, and only if the decision is not in by then, does it wait, at most `control.wait_s`.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from infoplane.agent.control.ballot import GO, NO, Ballot

THREAD_NAME: Final = "infoplane-control-agreement"
TURNS: Final = 3
MARGIN_STEPS: Final = 8
MARGIN_S = 3.0  # of steps between a proposal and its step, so that all ranks have time to vote
_PACE_STEPS: Final = 8  # boundaries over which rank 0 measures how fast steps go
_POLLS_PER_S: Final = 2000.0  # that the store may get from all ranks together
_POLL_S: Final = (0.02, 1.0)
_JOIN_S: Final = 1.0
_log = logging.getLogger("infoplane.agent")


class Answer(Enum):
    """What a boundary has to do."""

    WAIT = "not yet"
    BEGIN = "all ranks begin control now"
    OFF = "control is over"


class RefusedError(Exception):
    """Control is not to be; the message says why."""


@dataclass(slots=True)
class Turn:
    """A proposed step and, once it is known, what was decided about it."""

    number: int
    start: int
    word: str = ""
    known: threading.Event = field(default_factory=threading.Event)

    def settle(self, word: str) -> None:
        """Make the decision known to the training thread."""
        self.word = word
        self.known.set()


class Agreement:
    """One rank's part in the agreement.

    Args:
        ballot: the store; its fingerprint is empty on a rank with control off.
        rank: global rank.
        world: number of ranks.
        timeout_s: longest wait for the announcements of all ranks, and for each later answer.
        wait_s: longest wait of the training thread.
        step: number of the last finished step.
        obstacle: why this rank cannot have control although it is on; empty: it can.
    """

    def __init__(
        self,
        ballot: Ballot,
        rank: int,
        world: int,
        *,
        timeout_s: float,
        wait_s: float,
        step: int = -1,
        obstacle: str = "",
    ) -> None:
        self.refused = ""
        self._ballot = ballot
        self._rank = rank
        self._world = world
        self._timeout_s = timeout_s
        self._wait_s = wait_s
        self._obstacle = obstacle
        self._step = step
        self._times: deque[float] = deque(maxlen=_PACE_STEPS + 1)
        self._turn: Turn | None = None
        self._poll_s = min(max(world / _POLLS_PER_S, _POLL_S[0]), _POLL_S[1])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=THREAD_NAME, daemon=True)

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def stop(self, reason: str) -> None:
        """End it, and tell the others `reason` if they still count on this rank; at most 1 s."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
        if self._ballot.fingerprint and not self.refused:
            try:
                self._ballot.refuse(reason)
            except Exception as error:  # noqa: BLE001 - the job ends, and its store with it
                _log.debug("infoplane: the store is gone: %r", error)

    # ---------------------------------------------------------------- training thread

    def at(self, step: int) -> Answer:
        """Say what to do at the boundary that ends `step`."""
        # Before the turn is read: the thread publishes a turn first and reads the step after that,
        # so a step that is reached meanwhile is seen by one of the two.
        self._step = step
        self._times.append(time.perf_counter())
        if self.refused:
            return Answer.OFF
        turn = self._turn
        if turn is None or step < turn.start:
            return Answer.WAIT
        self._turn = None
        if not turn.known.wait(self._wait_s):
            # Whoever decides first decides for all, so that nobody begins without this rank.
            turn.settle(self._ballot.decide(turn.number, NO))
        if turn.word != GO:
            return Answer.WAIT
        # A rank that detached since then has left a word: better than to wait for it in vain.
        self.refused = self._ballot.refusal()
        return Answer.OFF if self.refused else Answer.BEGIN

    # ---------------------------------------------------------------- own thread

    def _run(self) -> None:
        try:
            if self._ballot.fingerprint:
                self._agree()
            else:
                self._watch()
        except RefusedError as refusal:
            self._give_up(str(refusal))
        except Exception as error:  # noqa: BLE001 - training goes on
            self._give_up(f"the rendezvous store failed: {error!r}")

    def _give_up(self, reason: str) -> None:
        turn = self._turn
        if self._stop.is_set():
            return
        if self._ballot.fingerprint:
            try:
                reason = self._ballot.refuse(reason)
            except Exception as error:  # noqa: BLE001 - the others find out by their timeouts
                _log.debug("infoplane: the store is gone: %r", error)
            _log.error(
                "infoplane: control is refused on all ranks: %s; training goes on without it",
                reason,
            )
        self.refused = reason
        if turn is not None:
            turn.settle(NO)

    def _watch(self) -> None:
        """Control is off here: look whether another rank has it on, so that nobody wonders."""
        self._ballot.announce(is_on=False)
        deadline = time.monotonic() + self._timeout_s
        while time.monotonic() < deadline:
            tally = self._ballot.tally()
            if tally.on:
                _log.error(
                    "infoplane: another rank has control on, this one has not: control is refused on all "
                    "ranks; set control.enabled and the other control settings alike on every rank"
                )
                break
            if tally.off >= self._world or self._stop.wait(self._poll_s):
                break
        self.refused = "off"

    def _agree(self) -> None:
        self._ballot.announce(is_on=True)
        if self._obstacle:
            raise RefusedError(f"rank {self._rank}: {self._obstacle}")
        self._await(self._all_alike, self._timeout_s, self._missing)
        for number in range(TURNS):
            if self._take_turn(number):
                return
        raise RefusedError(f"no step was found that all ranks still had ahead, in {TURNS} turns")

    def _all_alike(self) -> str:
        tally = self._ballot.tally()
        if tally.off:
            raise RefusedError(
                f"it is off on {tally.off} of {self._world} ranks; set control.enabled alike on every rank"
            )
        if tally.alike < tally.on:
            raise RefusedError(
                f"control settings or abilities (optimizers, on_checkpoint) differ: {tally.alike} of "
                f"{self._world} ranks are as rank {self._rank} is; make them equal on every rank"
            )
        return "yes" if tally.alike >= self._world else ""

    def _missing(self) -> str:
        tally = self._ballot.tally()
        return (
            f"only {tally.on} of {self._world} ranks answered within {self._timeout_s:g} s; is the agent "
            "enabled, and attach() called, on every rank?"
        )

    def _take_turn(self, number: int) -> bool:
        ballot = self._ballot
        if self._rank == 0:
            self._await(self._has_pace, self._timeout_s, None)
            ballot.propose(number, self._future_step(number))
        text = self._await(
            lambda: ballot.proposal(number), 3 * self._timeout_s, lambda: "rank 0 proposed no step"
        )
        turn = self._turn = Turn(number, int(text))
        is_ready = self._step < turn.start
        if not is_ready:
            self._turn = None
            turn.settle(NO)
        ballot.vote(number, is_ready=is_ready)
        if self._rank == 0:
            self._await(lambda: self._count(turn), 2 * self._timeout_s, None)
            ballot.decide(number, NO)  # if it is still open
        word = self._await(
            lambda: ballot.decision(number), 3 * self._timeout_s, lambda: "rank 0 decided nothing"
        )
        turn.settle(word)
        return word == GO

    def _has_pace(self) -> str:
        return "yes" if len(self._times) > _PACE_STEPS // 2 else ""

    def _future_step(self, number: int) -> int:
        times = list(self._times)
        rate = (len(times) - 1) / max(times[-1] - times[0], 1e-6) if len(times) > 1 else 0.0
        margin = max(MARGIN_STEPS, math.ceil(MARGIN_S * rate))
        return self._step + 1 + (margin << number)

    def _count(self, turn: Turn) -> str:
        ready, missed = self._ballot.votes(turn.number)
        if ready >= self._world:
            return self._ballot.decide(turn.number, GO)
        if missed or self._step >= turn.start:
            return self._ballot.decide(turn.number, NO)
        return ""

    def _await(
        self, look: Callable[[], str], timeout_s: float, why_not: Callable[[], str] | None
    ) -> str:
        """Call `look` until it returns something.

        Raises:
            RefusedError: another rank refused, the agreement was stopped, or time is up; without
                `why_not`, an empty text is returned then.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            if refusal := self._ballot.refusal():
                raise RefusedError(refusal)
            if found := look():
                return found
            if time.monotonic() >= deadline:
                if why_not is None:
                    return ""
                raise RefusedError(why_not())
            if self._stop.wait(self._poll_s):
                raise RefusedError("stopped")
