"""A policy file: what is accepted, and how a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from infoplane.collector.settings import PolicySection
from infoplane.controller.policy import Policy, engine_maker, load_policy
from infoplane.wire import ConfigurationError
from infoplane.wire.commands import create_keys

ROOT = Path(__file__).parents[2]
RULE = """
version: 1
rules:
  - name: cut-rate
    when: {{ {when} }}
    action: {action}
    {more}
"""


def policy_file(
    folder: Path,
    when: str = "verdict: {severity: warning}",
    action: str = "learning_rate_factor",
    more: str = "value: 0.5",
) -> Path:
    path = folder / "policy.yaml"
    path.write_text(RULE.format(when=when, action=action, more=more))
    return path


def test_a_policy_proposes_only_unless_it_says_otherwise(tmp_path: Path) -> None:
    policy = load_policy(policy_file(tmp_path))
    (rule,) = policy.rules
    assert (policy.mode, policy.budget, policy.min_completeness) == ("dry_run", 4, 0.9)
    assert (rule.budget, rule.cooldown_windows, rule.expires_s) == (1, 20, 60.0)
    assert rule.sent_bounds == (0.0, 10.0)
    condition = load_policy(policy_file(tmp_path, "metric: policy_entropy_nats, below: 0.3"))
    assert (condition.rules[0].when.agree, condition.rules[0].when.of) == (3, 3)


@pytest.mark.parametrize(
    ("changes", "key", "expected"),
    [
        ({"action": "reboot"}, "rules.0.action = 'reboot'", "one of learning_rate_factor, "),
        ({"more": "value: 20"}, "rules.0.value = 20", "a number within 0 .. 10"),
        ({"more": "value: yes"}, "rules.0.value = True", "a number"),
        ({"more": "value: .nan"}, "rules.0.value = nan", "a finite number"),
        ({"more": "budget: 2"}, "rules.0.value = None", "a number within 0 .. 10"),
        (
            {"action": "sampling_level", "more": "value: 4.5"},
            "rules.0.value = 4.5",
            "a whole number within 0 .. 20",
        ),
        ({"action": "checkpoint"}, "rules.0.value = 0.5", "no value: checkpoint takes none"),
        (
            {"more": "value: 0.5\n    bounds: [0.6, 1]"},
            "rules.0.bounds = [0.6, 1]",
            "[low, high] around value = 0.5",
        ),
        (
            {"more": "value: 0.5\n    bounds: [0.1, 100]"},
            "rules.0.bounds",
            "[low, high] within 0 .. 10",
        ),
        ({"more": "value: 0.5\n    budgets: 3"}, "rules.0.budgets = 3", "no such key"),
        (
            {"when": "metric: policy_entropy, below: 1"},
            "rules.0.when.metric = 'policy_entropy'",
            "a metric of `infoplane metrics list`",
        ),
        (
            {"when": "metric: effective_rank, labels: {rank: a}, below: 1"},
            "rules.0.when.labels",
            "labels of effective_rank: layer, tap",
        ),
        ({"when": "metric: effective_rank"}, "rules.0.when", "exactly one of above and below"),
        (
            {"when": "metric: effective_rank, below: 1, above: 2"},
            "rules.0.when",
            "exactly one of above and below",
        ),
        (
            {"when": "metric: effective_rank, below: 1, agree: 4, of: 3"},
            "rules.0.when.agree = 4",
            "at most of = 3",
        ),
        ({"when": "verdict: {}, metric: effective_rank"}, "rules.0.when", "either verdict, or"),
        ({"when": "verdict: {severity: grave}"}, "rules.0.when.verdict.severity", "'info', "),
    ],
)
def test_a_mistake_names_its_key_its_value_and_what_was_expected(
    tmp_path: Path, changes: dict[str, str], key: str, expected: str
) -> None:
    path = policy_file(tmp_path, **changes)
    with pytest.raises(ConfigurationError) as caught:
        load_policy(path)
    assert f"{path}: {key}" in str(caught.value)
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 1\nmode: dry_run\nmode: enforce\nrules: []", "the key mode stands twice"),
        ("version: [1", "valid YAML"),
        ("- 1", "a mapping with version: 1"),
        ("version: 2\nrules: []", "1"),
        ("version: 1\nrules: []", "at least 1 item"),
        ("version: 1", "the key is required"),
    ],
)
def test_a_file_that_is_no_policy(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        load_policy(path)
    assert expected in caught.value.expected


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="policy\\.file"):
        load_policy(tmp_path / "none.yaml")


def test_names_of_rules_are_unique(tmp_path: Path) -> None:
    path = policy_file(tmp_path)
    path.write_text(path.read_text() + path.read_text().partition("rules:")[2])
    with pytest.raises(ConfigurationError, match="not twice cut-rate"):
        load_policy(path)


def test_the_hash_tells_decisions_apart_and_not_the_mode(tmp_path: Path) -> None:
    policy = load_policy(policy_file(tmp_path))
    enforced = policy.model_copy(update={"mode": "enforce"})
    assert enforced.hash == policy.hash == enforced.as_dry_run().hash
    assert load_policy(policy_file(tmp_path, more="value: 0.4")).hash != policy.hash


def test_enforcing_needs_a_key_that_never_shows(tmp_path: Path) -> None:
    path = policy_file(tmp_path)
    path.write_text("mode: enforce\n" + path.read_text())
    with pytest.raises(ConfigurationError, match="private_key_file"):
        engine_maker(PolicySection(file=str(path)))
    assert engine_maker(PolicySection(file=str(path)), dry_run=True) is not None
    broken = tmp_path / "broken.key"
    broken.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    with pytest.raises(ConfigurationError) as caught:
        engine_maker(PolicySection(file=str(path), private_key_file=str(broken)))
    assert "c2VjcmV0" not in str(caught.value)
    private, _ = create_keys(tmp_path / "keys")
    maker = engine_maker(PolicySection(file=str(path), private_key_file=str(private)))
    assert maker is not None
    assert maker() is not maker()
    assert "PRIVATE" not in repr(maker())


def test_no_file_is_no_policy() -> None:
    assert engine_maker(PolicySection()) is None


def test_the_schema_can_be_exported() -> None:
    schema = Policy.model_json_schema()
    assert schema["additionalProperties"] is False
    assert {"Rule", "Condition", "VerdictMatch"} <= schema["$defs"].keys()


def test_the_example_loads_and_proposes_only() -> None:
    policy = load_policy(ROOT / "examples/policy.yaml")
    assert policy.mode == "dry_run"
    assert {rule.action for rule in policy.rules} >= {"learning_rate_factor", "checkpoint"}
