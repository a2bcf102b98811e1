"""Between the reader's thread and the boundaries: commands that passed the gate wait here."""

from __future__ import annotations

import hashlib
import logging
from collections import deque
from typing import Final

from infoplane.agent.control.audit import Audit
from infoplane.agent.control.gate import Gate, Situation
from infoplane.wire import DecodeError, decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.commands import REFUSALS, CommandError

CAPACITY: Final = 64
_log = logging.getLogger("infoplane.agent")


class Inbox:
    """Rank 0's commands in order of arrival.

    Attributes:
        step: last finished step, for the audit trail; kept up to date by the boundaries.
    """

    def __init__(self, gate: Gate, audit: Audit) -> None:
        self.step = 0
        self._gate = gate
        self._audit = audit
        self._waiting: deque[pb.Command] = deque()
        self._logged: set[str] = set()

    def deliver(self, raw: bytes) -> bool:
        """Take one message of the topic `control`; False: no room, offer it again later. One thread."""
        if len(self._waiting) >= CAPACITY:
            return False
        signed = pb.SignedCommand()
        try:
            signed = decode(raw, pb.SignedCommand)
            self._waiting.append(self._gate.open(signed))
        except DecodeError as error:
            self._refuse_message(signed, error)
        return True

    def next(self, now: Situation) -> bytes:
        """Return the next command whose turn has come, serialised; empty if there is none."""
        while self._waiting:
            command = self._waiting.popleft()
            try:
                self._gate.admit(command, now)
            except CommandError as error:
                self._refuse(command, error.reason, str(error))
                continue
            return command.SerializeToString(deterministic=True)
        return b""

    def drain(self) -> list[pb.Command]:
        """Return what still waits, and forget it."""
        left: list[pb.Command] = []
        while self._waiting:
            left.append(self._waiting.popleft())
        return left

    def _refuse_message(self, signed: pb.SignedCommand, error: DecodeError) -> None:
        reason = error.reason if error.reason in REFUSALS else "malformed"
        if reason in ("unsigned", "key", "signature", "malformed"):
            # Nothing of it is believed, not even its id: it would put words into a real one's trail.
            digest = hashlib.sha256(signed.command).hexdigest()[:16]
            self._refuse(pb.Command(), reason, str(error), key_id=signed.key_id, sha256=digest)
        else:
            self._refuse(pb.Command.FromString(signed.command), reason, str(error))

    def _refuse(self, command: pb.Command, reason: str, why: str, **details: str) -> None:
        if reason not in self._logged:
            # Once a reason: a log is no place for what somebody may repeat at will.
            self._logged.add(reason)
            _log.warning(
                "infoplane: command %s refused (%s); more of these are only audited",
                command.id,
                why,
            )
        self._audit.write("refused", command, self.step, reason, {"why": why, **details})
