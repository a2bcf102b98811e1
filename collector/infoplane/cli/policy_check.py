"""Policies as the command shows them, and what one would have done to a recorded run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infoplane.cli.stages import collector_stages, controller_stages
from infoplane.collector.drivers.replay import replay
from infoplane.collector.settings import Settings
from infoplane.controller.policy import Policy, Rule
from infoplane.wire import ConfigurationError
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import LogEntry, read_log
from infoplane.wire.topics import EVENTS, RECORDS, RESULTS


def proposals(log: Path, settings: Settings) -> Iterator[pb.AuditEntry]:
    """Yield what the policy of `settings` would have done to the run in `log`.

    The results in the log are judged if it holds any: that is what the live controller saw. Otherwise they are
    computed from its records first.

    Raises:
        ConfigurationError: there is no log, or nothing in it to judge.
        DecodeError: the log is damaged.
    """
    if not log.exists():
        raise ConfigurationError("--log", str(log), "an existing log, or a folder of logs")
    entries = list(read_log(log))
    names = settings.kafka.names
    stages = controller_stages(settings, dry_run=True)
    chosen = _of_topics(entries, {names.of(RESULTS)})
    if not chosen:
        chosen = _of_topics(entries, {names.of(RECORDS), names.of(EVENTS)})
        stages = [*collector_stages(settings), *stages]
    if not chosen:
        raise ConfigurationError(
            "--log", str(log), f"a log with topic {names.of(RESULTS)} or {names.of(RECORDS)}"
        )
    for emission in replay(chosen, stages, names):
        if isinstance(emission.message, pb.AuditEntry):
            yield emission.message


def _of_topics(entries: list[LogEntry], topics: set[str]) -> list[LogEntry]:
    return [entry for entry in entries if entry.topic in topics]


def rule_fields(rule: Rule) -> dict[str, Any]:
    """Return one rule as JSON-ready fields, defaults filled in."""
    has_value = rule.value is not None
    return {
        "name": rule.name,
        "when": rule.when.describe(),
        "action": rule.action,
        "value": rule.value,
        "bounds": list(rule.sent_bounds) if has_value else None,
        "cooldown_windows": rule.cooldown_windows,
        "budget": rule.budget,
        "expires_s": rule.expires_s,
        "only_if_value": rule.only_if_value,
        "min_n": rule.min_n,
    }


def policy_fields(policy: Policy) -> dict[str, Any]:
    """Return a policy as JSON-ready fields."""
    return {
        "mode": policy.mode,
        "hash": policy.hash,
        "budget": policy.budget,
        "min_completeness": policy.min_completeness,
        "rules": [rule_fields(rule) for rule in policy.rules],
    }
