"""The policy at work: results and verdicts in, audit entries and signed commands out.

Pure and deterministic: time is what it is told, so the same log gives the same ids and the same bytes, and a
controller that repeats itself after a restart is seen to do so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from infoplane.collector.stage import Emission
from infoplane.controller.policy.ballot import Ballot
from infoplane.controller.policy.messages import (
    BUDGET,
    Trigger,
    audit_of,
    command_of,
    metric_trigger,
    verdict_trigger,
)
from infoplane.controller.policy.record import PolicyRecord
from infoplane.controller.policy.rules import ENFORCE, SEVERITIES, Policy, Rule, VerdictMatch
from infoplane.wire import ConfigurationError
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.commands import Sign
from infoplane.wire.topics import AUDIT, CONTROL, run_key


@dataclass(slots=True)
class PolicyEngine:
    """Applies a policy to one run.

    Final panes only vote; undefined, saturated and incomplete results never do. What was shown before is recognised
    by its window and changes nothing, so the log may be read again from anywhere.

    Raises:
        ConfigurationError: the policy enforces, and there is no `sign`.
    """

    policy: Policy
    sign: Sign | None = None
    record: PolicyRecord = field(default_factory=PolicyRecord)

    def __post_init__(self) -> None:
        """Refuse to enforce without a key."""
        if self.policy.mode == ENFORCE and self.sign is None:
            raise ConfigurationError(
                "policy.private_key_file",
                "",
                "the PEM file of an Ed25519 private key, since the policy has mode: enforce",
            )

    def begin_attempt(self) -> None:
        """Forget votes, silences and budgets: a new attempt has its own."""
        self.record = PolicyRecord()

    def see_result(self, result: pb.Result, clock_ms: int) -> list[Emission]:
        """Take in one result; `clock_ms` becomes the time of issue, so it must depend on the log alone."""
        if result.pane.kind != pb.FINAL:
            return []
        emissions = []
        for rule in self.policy.rules:
            if _concerns(rule, result):
                emissions += self._vote(rule, result, clock_ms)
        return emissions

    def see_verdict(
        self, verdict: pb.Verdict, clock_ms: int, completeness: float = 1.0
    ) -> list[Emission]:
        """Take in one verdict; `completeness` is that of the results it was judged on."""
        if completeness < self.policy.min_completeness:
            return []
        emissions = []
        for rule in self.policy.rules:
            if rule.when.verdict is not None and _matches(rule.when.verdict, verdict):
                emissions += self._decide(rule, verdict_trigger(verdict, clock_ms))
        return emissions

    def dump(self) -> dict[str, Any]:
        """Return what must outlive a restart, as JSON-ready values."""
        return self.record.dump(self.policy.hash)

    def load(self, dumped: dict[str, Any]) -> None:
        """Go on where `dump` was called."""
        self.record = PolicyRecord.load(dumped, self.policy.hash)

    def _vote(self, rule: Rule, result: pb.Result, clock_ms: int) -> list[Emission]:
        labels = ",".join(f"{label.name}={label.value}" for label in result.labels)
        ballot = self.record.of(rule.name).ballots.setdefault(labels, Ballot())
        value = result.value if self._may_vote(rule, result) else None
        if not ballot.add(rule.when, result.window, value):
            return []
        votes = sum(vote for _, vote in ballot.votes)
        decided = self._decide(rule, metric_trigger(result, rule, votes, clock_ms))
        ballot.armed = not decided
        return decided

    def _may_vote(self, rule: Rule, result: pb.Result) -> bool:
        return (
            not result.undefined
            and not result.saturated
            and math.isfinite(result.value)
            and result.completeness >= self.policy.min_completeness
            and result.n >= rule.min_n
        )

    def _decide(self, rule: Rule, trigger: Trigger) -> list[Emission]:
        """Act, unless the rule is silent or a budget is spent."""
        kept, id_ = self.record.of(rule.name), trigger.id_for(rule)
        if trigger.window < kept.silent_until or id_ in self.record.issued:
            return []
        if kept.spent >= rule.budget or self.record.spent >= self.policy.budget:
            if kept.has_refused:
                return []
            kept.has_refused = True
            refused = audit_of(trigger, rule, self.policy, "refused", BUDGET)
            return [Emission(AUDIT, run_key(trigger.run), refused)]
        kept.spent += 1
        kept.silent_until = trigger.window + rule.cooldown_windows
        self.record.issued.append(id_)
        return self._issue(rule, trigger)

    def _issue(self, rule: Rule, trigger: Trigger) -> list[Emission]:
        key, reason = run_key(trigger.run), trigger.sentence
        proposed = audit_of(trigger, rule, self.policy, "proposed", reason)
        emissions = [Emission(AUDIT, key, proposed)]
        if self.policy.mode == ENFORCE and self.sign is not None:
            command = command_of(trigger, rule)
            signed = self.sign(command)
            facts = {"key_id": signed.key_id, "expires_ms": str(command.expires_ms)}
            sent = audit_of(trigger, rule, self.policy, "sent", reason, **facts)
            emissions += [Emission(CONTROL, key, signed), Emission(AUDIT, key, sent)]
        return emissions


def _concerns(rule: Rule, result: pb.Result) -> bool:
    if rule.when.metric != result.metric:
        return False
    labels = {label.name: label.value for label in result.labels}
    return rule.when.labels.items() <= labels.items()


def _matches(wanted: VerdictMatch, verdict: pb.Verdict) -> bool:
    grave = verdict.severity in SEVERITIES and SEVERITIES.index(verdict.severity)
    return (
        wanted.detector in (None, verdict.detector)
        and wanted.metric in (None, verdict.metric)
        and wanted.pattern in (None, verdict.pattern)
        and (wanted.severity is None or grave >= SEVERITIES.index(wanted.severity))
    )
