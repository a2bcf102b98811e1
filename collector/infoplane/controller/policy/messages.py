"""What a decision says: the command and its lines of the audit trail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from infoplane.controller.policy.rules import Policy, Rule
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.commands import nonce_of

ACTOR: Final = "controller"
BUDGET: Final = "budget"  # reason of a refusal by the controller itself
MAX_REASON_BYTES: Final = 240  # a command has 900 bytes in all


@dataclass(frozen=True, slots=True)
class Trigger:
    """Why a rule acts: one window of one run, a sentence, and the evidence by name."""

    run: str
    attempt: int
    window: int
    last_step: int
    clock_ms: int
    sentence: str
    evidence: Mapping[str, str]

    def id_for(self, rule: Rule) -> str:
        """Return the id of the intervention: the same for the same log."""
        return f"{self.run}/{self.attempt}/{rule.name}/{self.window}"


def metric_trigger(result: pb.Result, rule: Rule, votes: int, clock_ms: int) -> Trigger:
    """Return the trigger of a condition on a metric."""
    where = ", ".join(f"{label.name} {label.value}" for label in result.labels)
    sentence = (
        f"{result.metric}{f' of {where}' if where else ''} is {result.value:.4g}: "
        f"{rule.when.describe()}"
    )
    return Trigger(
        result.run,
        result.attempt,
        result.window,
        result.last_step,
        clock_ms,
        sentence,
        {
            "metric": result.metric,
            "labels": ",".join(f"{label.name}={label.value}" for label in result.labels),
            "value": f"{result.value:.10g}",
            "threshold": f"{rule.when.threshold:.10g}",
            "votes": f"{votes} of {rule.when.of}",
            "n": str(result.n),
            "completeness": f"{result.completeness:.4g}",
        },
    )


def verdict_trigger(verdict: pb.Verdict, clock_ms: int) -> Trigger:
    """Return the trigger of a condition on a verdict."""
    strongest = max((abs(one.score) for one in verdict.evidence), default=0.0)
    return Trigger(
        verdict.run,
        verdict.attempt,
        verdict.window,
        verdict.detected_step,
        clock_ms,
        verdict.sentence,
        {
            "verdict": verdict.id,
            "metric": verdict.metric,
            "severity": verdict.severity,
            "pattern": verdict.pattern,
            "since_step": str(verdict.since_step),
            "score": f"{strongest:.4g}",
        },
    )


def command_of(trigger: Trigger, rule: Rule) -> pb.Command:
    """Return the command of a decision."""
    low, high = rule.sent_bounds
    id_ = trigger.id_for(rule)
    return pb.Command(
        run=trigger.run,
        attempt=trigger.attempt,
        id=id_,
        nonce=nonce_of(id_),
        action=rule.action,
        value=rule.sent_value,
        low=low,
        high=high,
        issued_ms=trigger.clock_ms,
        expires_ms=trigger.clock_ms + round(rule.expires_s * 1000),
        rule=rule.name,
        reason=_shortened(trigger.sentence),
        if_value=rule.only_if_value,
    )


def audit_of(
    trigger: Trigger, rule: Rule, policy: Policy, stage: str, reason: str, **details: str
) -> pb.AuditEntry:
    """Return one line of the audit trail, with the evidence and the policy's hash."""
    told = {**trigger.evidence, "window": str(trigger.window), "policy": policy.hash, **details}
    return pb.AuditEntry(
        run=trigger.run,
        attempt=trigger.attempt,
        id=trigger.id_for(rule),
        stage=stage,
        actor=ACTOR,
        mode=policy.mode,
        action=rule.action,
        value=rule.sent_value,
        rule=rule.name,
        reason=reason,
        step=trigger.last_step,
        window=trigger.window,
        clock_ms=trigger.clock_ms,
        details=[pb.Parameter(name=name, value=value) for name, value in told.items() if value],
    )


def _shortened(text: str) -> str:
    return text.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
