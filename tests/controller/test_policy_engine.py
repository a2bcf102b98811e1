"""The policy at work: when it acts, when it must not, and that the same log gives the same commands."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from infoplane.collector.stage import Emission
from infoplane.controller.policy import Policy, PolicyEngine
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.commands import KeyRing, create_keys, nonce_of, signer
from infoplane.wire.topics import AUDIT, CONTROL

METRIC = "policy_entropy_nats"


def rule(**changes: Any) -> dict[str, Any]:
    given = {
        "name": "cut",
        "when": {"metric": METRIC, "below": 1.0},
        "action": "learning_rate_factor",
        "value": 0.5,
        "bounds": (0.1, 1.0),
        "cooldown_windows": 5,
        "budget": 9,
    }
    return {**given, **changes}


def policy(*rules: dict[str, Any], **changes: Any) -> Policy:
    return Policy.model_validate({"version": 1, "budget": 9, "rules": rules, **changes})


def result(window: int, value: float, metric: str = METRIC, **changes: Any) -> pb.Result:
    labels = changes.pop("labels", {})
    given: dict[str, Any] = {
        "run": "r",
        "attempt": 7,
        "window": window,
        "pane": pb.Pane(kind=pb.FINAL),
        "first_step": 8 * window,
        "last_step": 8 * window + 7,
        "metric": metric,
        "labels": [pb.Label(name=k, value=v) for k, v in sorted(labels.items())],
        "value": value,
        "n": 100,
        "completeness": 1.0,
    }
    return pb.Result(**{**given, **changes})


def verdict(window: int, **changes: Any) -> pb.Verdict:
    given: dict[str, Any] = {
        "run": "r",
        "attempt": 7,
        "id": f"r/7/change/{METRIC}/{window}",
        "detector": "change",
        "severity": "warning",
        "metric": METRIC,
        "window": window,
        "since_step": 8 * window,
        "detected_step": 8 * window + 7,
        "pattern": "all",
        "sentence": "it moved",
        "evidence": [pb.Evidence(value=1.0, score=-7.0)],
    }
    return pb.Verdict(**{**given, **changes})


def windows_of(engine: PolicyEngine, values: list[float | pb.Result]) -> list[int]:
    """Return the windows in which the engine proposed something."""
    found = []
    for window, value in enumerate(values):
        one = value if isinstance(value, pb.Result) else result(window, value)
        found += [
            e.message.window
            for e in engine.see_result(one, 1_000 * window)
            if e.topic is AUDIT and e.message.stage == "proposed"
        ]
    return found


def stages(emissions: list[Emission]) -> list[str]:
    return [e.topic.name if e.topic is CONTROL else e.message.stage for e in emissions]


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return create_keys(tmp_path)


def test_three_windows_must_agree_and_the_third_acts() -> None:
    assert windows_of(PolicyEngine(policy(rule())), [2, 0.5, 0.5, 2, 0.5, 0.5, 0.5]) == [6]


def test_two_of_three_may_be_enough_and_the_newest_must_vote() -> None:
    when = {"metric": METRIC, "below": 1.0, "agree": 2, "of": 3}
    engine = PolicyEngine(policy(rule(when=when)))
    assert windows_of(engine, [0.5, 1.1, 0.5, 1.1]) == [2]


@pytest.mark.parametrize(
    "changes",
    [
        {"undefined": "n"},
        {"saturated": True},
        {"completeness": 0.89},
        {"n": 9},
        {"value": math.nan},
        {"pane": pb.Pane(kind=pb.LATE, index=1)},
        {"pane": pb.Pane(kind=pb.EARLY)},
    ],
)
def test_what_cannot_be_relied_on_does_not_vote(changes: dict[str, Any]) -> None:
    engine = PolicyEngine(policy(rule(min_n=10)))
    doubtful = [result(w, **{"value": 0.5, **changes}) for w in range(6)]
    assert windows_of(engine, list(doubtful)) == []


def test_an_incomplete_window_breaks_the_row() -> None:
    engine = PolicyEngine(policy(rule()))
    middle = result(1, 0.5, completeness=0.5)
    assert windows_of(engine, [0.5, middle, 0.5, 0.5]) == []
    assert windows_of(PolicyEngine(policy(rule(), min_completeness=0.5)), [0.5, middle, 0.5]) == [2]


def test_after_acting_the_value_must_come_back_by_a_fifth() -> None:
    held = [0.5] * 12
    assert windows_of(PolicyEngine(policy(rule())), held) == [2]
    nearly = [0.5] * 3 + [1.19] + [0.5] * 8
    assert windows_of(PolicyEngine(policy(rule())), nearly) == [2]
    back = [0.5] * 3 + [1.2] + [0.5] * 8
    assert windows_of(PolicyEngine(policy(rule())), back) == [2, 7]  # silent until window 7


def test_series_vote_for_themselves_and_share_the_cooldown() -> None:
    when = {"metric": "effective_rank", "below": 2.0, "agree": 2, "of": 2}
    engine = PolicyEngine(policy(rule(when=when)))
    found = []
    for window in range(10):
        for tap, low_from in (("00/block", 3), ("01/block", 4), ("02/block", 99)):
            value = 1.0 if window >= low_from else 5.0
            labels = {"tap": tap, "layer": tap[:2]}
            one = result(window, value, "effective_rank", labels=labels)
            found += [e.message for e in engine.see_result(one, 0) if e.message.stage == "proposed"]
    assert [entry.window for entry in found] == [4, 9]
    assert "01/block" in found[1].reason, "its condition held on while the rule was silent"


def test_labels_choose_the_series() -> None:
    when = {
        "metric": "effective_rank",
        "labels": {"tap": "01/block"},
        "below": 2,
        "agree": 1,
        "of": 1,
    }
    engine = PolicyEngine(policy(rule(when=when)))
    other = result(0, 1.0, "effective_rank", labels={"tap": "00/block", "layer": "00"})
    wanted = result(0, 1.0, "effective_rank", labels={"tap": "01/block", "layer": "01"})
    assert engine.see_result(other, 0) == []
    assert stages(engine.see_result(wanted, 0)) == ["proposed"]


def test_a_metric_with_a_cadence_counts_its_own_windows_and_a_long_gap_does_not_count() -> None:
    sparse = [result(window, 0.5) for window in (0, 4, 8)]
    assert windows_of(PolicyEngine(policy(rule())), list(sparse)) == [8]
    torn = [result(window, 0.5) for window in (0, 4, 40)]
    assert windows_of(PolicyEngine(policy(rule())), list(torn)) == []


@pytest.mark.parametrize(
    ("match", "acts"),
    [
        ({}, True),
        ({"severity": "info"}, True),
        ({"severity": "critical"}, False),
        ({"pattern": "late"}, False),
        ({"metric": "effective_rank"}, False),
        ({"detector": "limit"}, False),
        ({"detector": "change", "metric": METRIC, "pattern": "all", "severity": "warning"}, True),
    ],
)
def test_a_verdict_is_matched_by_what_the_rule_names(match: dict[str, str], acts: bool) -> None:
    engine = PolicyEngine(policy(rule(when={"verdict": match})))
    assert bool(engine.see_verdict(verdict(3), 0)) is acts


def test_a_verdict_of_an_unknown_severity_is_taken_for_the_mildest() -> None:
    engine = PolicyEngine(policy(rule(when={"verdict": {"severity": "warning"}})))
    assert engine.see_verdict(verdict(3, severity="odd"), 0) == []


def test_a_verdict_on_incomplete_results_does_not_act() -> None:
    engine = PolicyEngine(policy(rule(when={"verdict": {}})))
    assert engine.see_verdict(verdict(3), 0, completeness=0.5) == []


def test_cooldown_and_budgets_are_kept_and_the_refusal_is_said_once() -> None:
    rules = rule(when={"verdict": {}}, cooldown_windows=4, budget=2)
    engine = PolicyEngine(policy(rules))
    said = {w: stages(engine.see_verdict(verdict(w), 0)) for w in (0, 3, 4, 8, 12)}
    assert said == {0: ["proposed"], 3: [], 4: ["proposed"], 8: ["refused"], 12: []}
    refused = PolicyEngine(policy(rules, budget=1))
    refused.see_verdict(verdict(0), 0)
    (entry,) = refused.see_verdict(verdict(4), 0)
    assert (entry.message.stage, entry.message.reason) == ("refused", "budget")


def test_the_budget_of_all_rules_is_shared() -> None:
    one = rule(name="one", when={"verdict": {}})
    two = rule(name="two", when={"verdict": {}})
    engine = PolicyEngine(policy(one, two, budget=1))
    assert stages(engine.see_verdict(verdict(0), 0)) == ["proposed", "refused"]
    engine.begin_attempt()
    assert stages(engine.see_verdict(verdict(1), 0)) == ["proposed", "refused"]


def test_enforcing_sends_what_a_run_can_check(keys: tuple[Path, Path]) -> None:
    private, public = keys
    enforcing = policy(rule(only_if_value=1.0, expires_s=30), mode="enforce")
    engine = PolicyEngine(enforcing, signer(private))
    emissions: list[Emission] = []
    for window in range(3):
        emissions += engine.see_result(result(window, 0.5), 5_000 + window)
    assert stages(emissions) == ["proposed", "control", "sent"]
    assert [e.key for e in emissions] == [b"r"] * 3
    proposed, signed, sent = (e.message for e in emissions)
    command = KeyRing.of_files([public]).open(signed)
    assert command.id == proposed.id == sent.id == "r/7/cut/2"
    assert command.nonce == nonce_of(command.id)
    assert (command.issued_ms, command.expires_ms) == (5_002, 35_002)
    assert (command.action, command.value, command.low, command.high) == (
        "learning_rate_factor",
        0.5,
        0.1,
        1.0,
    )
    assert command.if_value == 1.0
    assert (sent.mode, sent.actor, sent.step, sent.window) == ("enforce", "controller", 23, 2)
    details = {one.name: one.value for one in proposed.details}
    assert details == {
        "metric": METRIC,
        "value": "0.5",
        "threshold": "1",
        "votes": "3 of 3",
        "n": "100",
        "completeness": "1",
        "window": "2",
        "policy": enforcing.hash,
    }


def test_a_dry_run_sends_nothing_even_with_a_key(keys: tuple[Path, Path]) -> None:
    engine = PolicyEngine(policy(rule()), signer(keys[0]))
    assert windows_of(engine, [0.5] * 3) == [2]
    engine = PolicyEngine(policy(rule(when={"verdict": {}})), signer(keys[0]))
    (entry,) = engine.see_verdict(verdict(0), 0)
    assert (entry.topic, entry.message.mode) == (AUDIT, "dry_run")


def test_the_longest_names_still_fit_a_command(keys: tuple[Path, Path]) -> None:
    long = policy(rule(name="n" * 64, when={"verdict": {}}), mode="enforce")
    told = verdict(2**40, run="r" * 128, attempt=2**62, sentence="\u00e4" * 5_000)
    _, command, _ = PolicyEngine(long, signer(keys[0])).see_verdict(told, 2**45)
    KeyRing.of_files([keys[1]]).open(command.message)


def test_state_survives_as_json_and_reading_again_changes_nothing() -> None:
    design = policy(rule(), rule(name="say", when={"verdict": {}}))
    engine = PolicyEngine(design)
    values = [2, 0.5, 0.5, 0.5, 1.5, 0.5, 0.5]
    windows_of(engine, list(values))
    engine.see_verdict(verdict(3), 0)
    again = PolicyEngine(design)
    again.load(json.loads(json.dumps(engine.dump())))
    assert again.dump() == engine.dump()
    assert windows_of(again, list(values)) == []
    assert again.see_verdict(verdict(3), 0) == []
    assert again.dump() == engine.dump()


def test_a_changed_policy_keeps_what_was_spent_and_votes_anew() -> None:
    engine = PolicyEngine(policy(rule(budget=1)))
    windows_of(engine, [0.5] * 3)
    stricter = PolicyEngine(policy(rule(budget=1, value=0.4)))
    stricter.load(engine.dump())
    assert stricter.record.spent == 1
    assert stricter.record.of("cut").ballots == {}
    assert windows_of(stricter, [result(w, 0.5) for w in range(10, 20)]) == []
