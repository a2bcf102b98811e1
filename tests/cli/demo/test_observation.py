"""What the demo reports is what the topics said."""

from __future__ import annotations

from typing import Any

from infoplane.cli.demo.observation import Observation
from infoplane.cli.demo.report import report_of, report_rows
from infoplane.exporter.testing import MadeUpRun
from infoplane.wire import infoplane_pb2 as pb

UNITS = ["layers/00-07", "scalars"]


def pane(
    window: int, unit: str, present: int, kind: int = pb.FINAL, index: int = 0
) -> pb.WindowPane:
    return pb.WindowPane(
        run="r",
        attempt=1,
        unit=unit,
        window=window,
        pane=pb.Pane(kind=kind, index=index),  # type: ignore[arg-type]
        expected=16,
        present=present,
        units=UNITS,
        rule=pb.WindowRule(base_level=0, width=8),
    )


def result(metric: str, value: float, window: int = 0, **labels: str) -> pb.Result:
    return pb.Result(
        run="r",
        attempt=1,
        window=window,
        pane=pb.Pane(kind=pb.FINAL),
        metric=metric,
        value=value,
        labels=[pb.Label(name=name, value=label) for name, label in sorted(labels.items())],
    )


def verdict(step: int, metric: str = "von_neumann_entropy_nats", name: str = "a") -> pb.Verdict:
    evidence = [
        pb.Evidence(labels=[pb.Label(name="tap", value=tap)]) for tap in ("01/block", "00/block")
    ]
    return pb.Verdict(
        run="r", id=name, metric=metric, detected_step=step, since_step=step - 7, evidence=evidence
    )


def seen(*messages: Any) -> Observation:
    observation = Observation("r")
    for message in messages:
        observation.add(message)
    return observation


def test_a_window_is_final_when_every_unit_is() -> None:
    observation = seen(pane(0, UNITS[0], 16), pane(0, UNITS[1], 16), pane(1, UNITS[0], 16))
    assert observation.final == [0]
    assert observation.complete == [0]
    assert observation.ranks == 2


def test_a_late_pane_replaces_the_final_one_whatever_comes_first() -> None:
    final, late = pane(0, UNITS[0], 8), pane(0, UNITS[0], 16, pb.LATE, 1)
    other = pane(0, UNITS[1], 16)
    assert seen(final, other).complete == []
    assert seen(final, late, other).complete == seen(late, final, other).complete == [0]


def test_other_runs_and_early_panes_do_not_count() -> None:
    stranger = pane(0, UNITS[0], 16)
    stranger.run = "s"
    assert seen(stranger, pane(0, UNITS[0], 16, pb.EARLY), None).windows == {}


def test_the_report_takes_the_newest_totals() -> None:
    observation = seen(
        result("agent_sent_records_total", 100, 0),
        result("agent_sent_records_total", 250, 1),
        result("agent_dropped_records_total", 2, 1, reason="queue_full"),
        result("agent_dropped_records_total", 3, 1, reason="closed"),
        result("agent_overhead_ratio", 0.02, 1),
    )
    report = report_of(observation, None, "http://page/")
    assert report["records_sent"] == 250
    assert report["records_dropped"] == 5
    assert report["agent_overhead_ratio"] == 0.02
    assert report["fault"] is None
    assert report["page"] == "http://page/"


def test_the_first_verdict_on_a_representation_after_the_fault_is_the_detection() -> None:
    observation = seen(
        verdict(95, name="false alarm"),
        verdict(103, "training_scalar", name="loss"),
        verdict(119, name="later"),
        verdict(111, name="first"),
    )
    fault = report_of(observation, 96, "")["fault"]
    assert fault == {
        "injected_step": 96,
        "detected_step": 111,
        "metric": "von_neumann_entropy_nats",
        "taps": ["00/block", "01/block"],
    }


def test_a_fault_that_nobody_saw_is_said_so() -> None:
    report = report_of(seen(), 96, "")
    assert report["fault"]["detected_step"] is None
    assert ("fault", "injected at step 96, not detected") in report_rows(report)


def test_a_verdict_that_is_read_twice_counts_once() -> None:
    assert len(seen(verdict(15), verdict(15)).verdicts) == 1


def test_an_intervention_is_reported_with_the_step_of_every_rank() -> None:
    proposed, sent, first, second = MadeUpRun("r").audit(2, 1.0)
    observation = seen(proposed)
    assert (observation.sent, observation.is_acting(2)) == (None, False)
    assert report_of(observation, None, "")["intervention"] is None
    observation.add(sent)
    assert observation.is_acting(2)
    for entry in (first, first, second):
        observation.add(entry)
    assert not observation.is_acting(2)
    report = report_of(observation, None, "")
    assert report["intervention"] == {
        "action": "learning_rate_factor",
        "value": 0.1,
        "stage": "applied",
        "applied_steps": {"0": 388, "1": 388},
        "audit_id": "r/1/cut-rate/2",
    }
    told = "learning_rate_factor 0.1 applied: rank 0 at step 388, rank 1 at step 388"
    assert ("intervention", told) in report_rows(report)


def test_nobody_waits_for_a_command_that_was_refused() -> None:
    _, sent, first, _ = MadeUpRun("r").audit(2, 1.0)
    first.stage, first.reason = "refused", "expired"
    observation = seen(sent, first)
    assert not observation.is_acting(2)
    intervention = report_of(observation, None, "")["intervention"]
    assert (intervention["stage"], intervention["applied_steps"]) == ("refused", {})
