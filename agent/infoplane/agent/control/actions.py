"""What the four actions do to a rank, and what is read back afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter

from infoplane.agent.cadence import Cadence
from infoplane.agent.control.audit import Audit
from infoplane.agent.control.means import Means
from infoplane.agent.control.rates import RateFactor
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.actions import CHECKPOINT, LEARNING_RATE_FACTOR, SAMPLING_LEVEL, STOP

_log = logging.getLogger("infoplane.agent")


class Actions:
    """Applies commands on the training thread, at boundaries.

    Attributes:
        should_stop: a stop was commanded.
        seconds: spent in checkpoints so far, which are the user's time and not the agent's.
    """

    def __init__(self, means: Means, cadence: Cadence, audit: Audit) -> None:
        self.should_stop = False
        self.seconds = 0.0
        self._means = means
        self._cadence = cadence
        self._audit = audit
        self._rates = RateFactor(means.optimizers)
        self._unseen: pb.Command | None = None  # a factor that no optimizer step has shown yet
        self._do: dict[str, Callable[[pb.Command, int], None]] = {
            LEARNING_RATE_FACTOR.name: self._scale_rates,
            CHECKPOINT.name: self._write_checkpoint,
            SAMPLING_LEVEL.name: self._change_level,
            STOP.name: self._stop,
        }

    @property
    def is_unseen(self) -> bool:
        """Return whether a factor was set that no optimizer step has shown yet."""
        return self._unseen is not None

    @property
    def learning_rate_factor(self) -> float:
        """Return the factor in force."""
        return self._rates.factor

    @property
    def in_force(self) -> dict[str, float]:
        """Return the value in force by action; events have none."""
        return {
            LEARNING_RATE_FACTOR.name: self._rates.factor,
            SAMPLING_LEVEL.name: float(self._cadence.commanded),
        }

    def apply(self, command: pb.Command, first_step: int) -> None:
        """Do it; `first_step` is the first one trained with the change."""
        try:
            self._do[command.action](command, first_step)
        except Exception as error:  # noqa: BLE001 - training goes on
            self.fail(command, first_step, error)

    def settle(self, step: int) -> None:
        """At the end of `step`: report a factor that the optimizer has seen for the first time."""
        command = self._unseen
        try:
            seen = self._rates.settle()
        except RuntimeError as error:
            seen = []
            if command is not None:
                self._unseen = None
                self.fail(command, step, error)
        if command is None or not seen:
            return
        self._unseen = None
        before, after = seen[0]
        details = {
            "learning_rate_before": before,
            "learning_rate_after": after,
            "groups": len(seen),
        }
        self._audit.write("applied", command, step, details=details)

    def close(self, step: int) -> None:
        """Report what never became visible."""
        self._drop_unseen(step, "control ended before an optimizer step")
        if self._rates.factor != 1.0:
            _log.warning(
                "infoplane: learning rate factor %g stays in force, as on the other ranks",
                self._rates.factor,
            )

    def fail(self, command: pb.Command, step: int, error: object) -> None:
        """Report that `command` could not be applied here."""
        _log.error("infoplane: command %s (%s) failed: %s", command.id, command.action, error)
        text = repr(error) if isinstance(error, Exception) else str(error)
        self._audit.write("failed", command, step, "unsupported", {"error": text})

    def _drop_unseen(self, step: int, why: str) -> None:
        command, self._unseen = self._unseen, None
        if command is not None:
            self.fail(command, step, why)

    # ---------------------------------------------------------------- the four

    def _scale_rates(self, command: pb.Command, first_step: int) -> None:
        self._drop_unseen(first_step, "no optimizer step before the next command")
        self._rates.set(command.value)
        self._unseen = command

    def _write_checkpoint(self, command: pb.Command, first_step: int) -> None:
        write = self._means.checkpoint
        if write is None:
            raise RuntimeError("no way to write a checkpoint")
        start = perf_counter()
        try:
            write(first_step)
        finally:
            spent = perf_counter() - start
            self.seconds += spent
        self._audit.write("applied", command, first_step, details={"seconds": f"{spent:.3f}"})

    def _change_level(self, command: pb.Command, first_step: int) -> None:
        before = self._cadence.at(first_step)[0]
        since = self._cadence.change(int(command.value), first_step)
        details = {"level_before": before, "level_after": self._cadence.at(since)[0]}
        self._audit.write("applied", command, since, details=details)

    def _stop(self, command: pb.Command, first_step: int) -> None:
        self.should_stop = True
        self._audit.write("applied", command, first_step)
