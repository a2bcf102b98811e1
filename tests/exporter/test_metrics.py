from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from infoplane.collector.metrics import METRICS
from infoplane.collector.metrics.metric import ALLOWED_LABELS
from infoplane.exporter import FeedStatus, Store
from infoplane.exporter.families import COMPANIONS, name_of
from infoplane.exporter.metrics import FeedCollector, StoreCollector
from infoplane.exporter.testing import MadeUpRun
from infoplane.wire import infoplane_pb2 as pb

# Information in bits is no amount of storage; promtool cannot know.
KNOWN_COMPLAINTS = {
    f'{name} use base unit "bytes" instead of "bits"'
    for metric in METRICS
    if metric.unit == "bits"
    for name in (name_of(metric), *(one.name_for(metric) for one in COMPANIONS))
}


class Reader:
    def status(self) -> FeedStatus:
        return FeedStatus(True, (), {"latest": 3}, {"checksum": 2}, {"magic": 1}, 1, "")


def filled(now: float = 1000.0) -> Store:
    store = Store(ttl_s=600, series_cap=10_000, history_windows=10, clock=lambda: now)
    run = MadeUpRun("r", 4, breaks_at=1)
    for window in range(3):
        for one in run.results(window, 900.0 + window):
            store.add(one, 999.0)
    # Every metric of the registry appears, so that every name is linted.
    for metric in METRICS:
        labels = [pb.Label(name=name, value="x") for name in sorted(metric.labels)]
        one = pb.Result(
            run="r", attempt=1, window=2, metric=metric.name, labels=labels, value=1.0, n=1
        )
        one.null_mean, one.null_sd, one.ceiling = 0.1, 0.01, 2.0
        store.add(one, 999.0)
    store.add_verdict(run.verdict(2, 902.0), 999.0)
    for entry in [*run.audit(2, 902.0), *run.audit(2, 902.0)]:
        store.add_audit(entry, 999.0)
    strange = pb.AuditEntry(run="r", id="x", stage="pondered", mode="", action="dance")
    store.add_audit(strange, 999.0)
    unsigned = pb.AuditEntry(run="r", stage="refused", actor="agent", mode="enforce")
    for _ in range(3):
        store.add_audit(unsigned, 999.0)
    gone = MadeUpRun("gone", 2)
    for one in gone.results(0, 1.0):
        store.add(one, 1.0)
    return store


def exposition(store: Store) -> str:
    registry = CollectorRegistry()
    registry.register(StoreCollector(store))
    registry.register(FeedCollector(Reader()))
    return generate_latest(registry).decode()


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted((k, v) for k, v in sample.labels.items() if v))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_promtool_accepts_the_exposition(require: Callable[[str, bool, str], None]) -> None:
    require("promtool", shutil.which("promtool") is not None, "promtool is not on PATH")
    text = exposition(filled())
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    complaints = set(filter(None, (done.stdout + done.stderr).splitlines()))
    assert complaints <= KNOWN_COMPLAINTS


def test_every_metric_is_exported_with_its_help() -> None:
    text = exposition(filled())
    for metric in METRICS:
        assert f"# HELP infoplane_{metric.name} " in text
        assert f"\ninfoplane_{metric.name}{{" in text
        assert f"# TYPE infoplane_{metric.name} {metric.kind}" in text


def test_labels_are_those_that_are_allowed() -> None:
    extra = {"run", "attempt", "metric", "detector", "severity", "topic", "mode", "stage"}
    found = {name for (_, labels) in samples(exposition(filled())) for name, _ in labels}
    assert found <= ALLOWED_LABELS | extra
    assert not found & {"rank", "step", "host", "window"}


def test_null_and_ceiling_stand_beside_the_value() -> None:
    found = samples(exposition(filled()))
    labels = (
        ("estimator", "heldout_ksg"),
        ("layer", "00"),
        ("pair", "embed|00/block"),
        ("run", "r"),
    )
    assert found["infoplane_mutual_information_nats", labels] > 1
    assert found["infoplane_mutual_information_null_nats", labels] < 0.1
    assert found["infoplane_mutual_information_null_sd_nats", labels] == 0.012
    assert found["infoplane_mutual_information_ceiling_nats", labels] == 3.2
    assert found["infoplane_mutual_information_saturated", labels] == 0


def test_what_a_run_is_at() -> None:
    found = samples(exposition(filled()))
    run = (("run", "r"),)
    assert found["infoplane_run_info", (("attempt", "1"), ("run", "r"))] == 1
    assert (
        found["infoplane_training_step", run] == 3 * 128 - 1
        or found["infoplane_training_step", run] == 0
    )
    assert found["infoplane_last_update_timestamp_seconds", run] == 999.0
    assert found["infoplane_series_rejected_total", (("reason", "cap"), ("run", "r"))] == 0
    verdict = (
        ("detector", "change"),
        ("metric", "von_neumann_entropy_nats"),
        ("run", "r"),
        ("severity", "critical"),
    )
    assert found["infoplane_verdicts_total", verdict] == 1
    assert found["infoplane_exporter_decode_errors_total", (("reason", "checksum"),)] == 2
    assert found["infoplane_exporter_decode_errors_total", (("reason", "magic"),)] == 0
    assert found["infoplane_dead_letters_total", (("reason", "magic"),)] == 1


def test_every_stage_of_an_intervention_counts_once_and_labels_stay_few() -> None:
    found = samples(exposition(filled()))
    assert len(filled().interventions("r")) == 2
    counts = {
        tuple(value for name, value in labels if name != "run"): count
        for (name, labels), count in found.items()
        if name == "infoplane_interventions_total"
    }
    assert counts == {
        ("learning_rate_factor", "enforce", "proposed"): 1,
        ("learning_rate_factor", "enforce", "sent"): 1,
        ("learning_rate_factor", "enforce", "applied"): 1,
        ("other", "other", "other"): 1,
        ("other", "enforce", "refused"): 3,
    }


def test_ended_runs_vanish() -> None:
    assert not [labels for _, labels in samples(exposition(filled())) if ("run", "gone") in labels]
    assert 'run="r"' not in exposition(filled(now=5000.0))


@pytest.mark.parametrize("reason", ["unit", "labels"])
def test_undefined_results_are_counted_and_not_exported(reason: str) -> None:
    store = Store(ttl_s=600, series_cap=10, history_windows=10)
    store.add(
        pb.Result(run="r", metric="policy_entropy_nats", window=1, undefined=reason, value=7.0)
    )
    text = exposition(store)
    assert "infoplane_policy_entropy_nats{" not in text
    key = (("metric", "policy_entropy_nats"), ("reason", reason), ("run", "r"))
    assert samples(text)["infoplane_undefined_results", key] == 1
