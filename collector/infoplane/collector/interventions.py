"""The audit trail, gathered: one object for everything that was said about one intervention."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.actions import ACTIONS

STAGES: Final = ("proposed", "sent", "refused", "applied", "failed")
MODES: Final = ("dry_run", "enforce")
OTHER: Final = "other"  # what a newer writer says; labels must stay few
# What an intervention has come to when ranks, or repetitions of its command, tell different things. A run that
# applied a command refuses the same one when it comes again, so `applied` weighs more.
_WEIGHT: Final = {stage: weight for weight, stage in enumerate((OTHER, *STAGES))}


@dataclass(slots=True)
class Intervention:
    """What the audit trail says about one id. Adding is idempotent and independent of order."""

    run: str
    id: str
    entries: dict[tuple[str, str, int], pb.AuditEntry] = field(default_factory=dict)

    def add(self, entry: pb.AuditEntry) -> bool:
        """Take in one line; return whether its stage is new for this intervention."""
        known = {stage for stage, _, _ in self.entries}
        key = (entry.stage, entry.actor, entry.rank)
        held = self.entries.get(key)
        if held is None or entry.clock_ms <= held.clock_ms:
            self.entries[key] = entry
        return entry.stage not in known

    @property
    def head(self) -> pb.AuditEntry:
        """The line that says most about the plan: the controller's own, else the first."""
        return min(self.entries.values(), key=lambda one: (one.actor != "controller", _order(one)))

    @property
    def stage(self) -> str:
        """What it has come to."""
        return max((word(stage, STAGES) for stage, _, _ in self.entries), key=_WEIGHT.__getitem__)

    @property
    def was_sent(self) -> bool:
        """Whether a command left the controller, whatever became of it."""
        return any(stage == "sent" or actor == "agent" for stage, actor, _ in self.entries)

    @property
    def since_ms(self) -> int:
        """When its newest stage was reached first."""
        stage = self.stage
        return min(
            one.clock_ms for one in self.entries.values() if word(one.stage, STAGES) == stage
        )

    @property
    def applied_steps(self) -> dict[int, int]:
        """Return rank -> first step trained with the change, by rank."""
        found = {one.rank: one.step for one in self.entries.values() if one.stage == "applied"}
        return dict(sorted(found.items()))

    @property
    def reason(self) -> str:
        """Why it was refused or failed, else why it was proposed."""
        ends = [one for one in self.entries.values() if one.stage == self.stage]
        told = min(ends, key=_order) if ends else self.head
        return told.reason if self.stage in ("refused", "failed") else self.head.reason

    @property
    def value(self) -> float | None:
        """The value, None where the action has none."""
        action = ACTIONS.get(self.head.action)
        return None if action is not None and action.low == action.high else self.head.value

    def describe(self) -> str:
        """Return action and value in words."""
        value = self.value
        return self.head.action if value is None else f"{self.head.action} {value:g}"


def gather(entries: Iterable[pb.AuditEntry]) -> list[Intervention]:
    """Return the interventions of `entries`, in the order in which their first lines come.

    Lines without an id are left out: a rank refused a command of which nothing can be believed, not even its id.
    """
    found: dict[tuple[str, str], Intervention] = {}
    for entry in entries:
        if entry.id:
            key = (entry.run, entry.id)
            found.setdefault(key, Intervention(*key)).add(entry)
    return list(found.values())


def word(text: str, known: Iterable[str]) -> str:
    """Return `text` if it is known, else `other`."""
    return text if text in known else OTHER


def _order(entry: pb.AuditEntry) -> tuple[int, int, int]:
    return (entry.clock_ms, _WEIGHT.get(entry.stage, 0), entry.rank)
