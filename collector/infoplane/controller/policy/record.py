"""What a policy remembers within one attempt, and its JSON-ready form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from infoplane.controller.policy.ballot import Ballot

VERSION: Final = 1


@dataclass(slots=True)
class RuleRecord:
    """One rule: how often it acted, until which window it is silent, and the votes of its series.

    Attributes:
        has_refused: the audit trail already says that the budget is spent.
    """

    spent: int = 0
    silent_until: int = -1
    has_refused: bool = False
    ballots: dict[str, Ballot] = field(default_factory=dict)  # by labels, as text


@dataclass(slots=True)
class PolicyRecord:
    """All rules by name, and the ids of everything decided, in order."""

    rules: dict[str, RuleRecord] = field(default_factory=dict)
    issued: list[str] = field(default_factory=list)

    @property
    def spent(self) -> int:
        """How often any rule acted."""
        return sum(rule.spent for rule in self.rules.values())

    def of(self, rule: str) -> RuleRecord:
        """Return the record of a rule, a new one for its first question."""
        return self.rules.setdefault(rule, RuleRecord())

    def dump(self, policy_hash: str) -> dict[str, Any]:
        """Return it as JSON-ready values."""
        return {
            "version": VERSION,
            "policy": policy_hash,
            "issued": self.issued,
            "rules": {
                name: [
                    rule.spent,
                    rule.silent_until,
                    int(rule.has_refused),
                    {key: ballot.dump() for key, ballot in rule.ballots.items()},
                ]
                for name, rule in self.rules.items()
            },
        }

    @classmethod
    def load(cls, dumped: dict[str, Any], policy_hash: str) -> PolicyRecord:
        """Return what `dump` was called on; under another policy its budgets and silences, but not its votes."""
        if dumped.get("version") != VERSION:
            return cls()
        same = dumped["policy"] == policy_hash
        record = cls(issued=list(dumped["issued"]))
        for name, (spent, silent_until, has_refused, ballots) in dumped["rules"].items():
            kept = {key: Ballot.load(one) for key, one in ballots.items()} if same else {}
            record.rules[name] = RuleRecord(spent, silent_until, same and bool(has_refused), kept)
        return record
