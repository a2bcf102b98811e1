"""What the demo reports at its end: one object for programs, one table for people."""

from __future__ import annotations

from typing import Any, Final

from infoplane.cli.demo.observation import DROPPED, OVERHEAD, SENT, Observation
from infoplane.cli.demo.plan import WINDOW_STEPS
from infoplane.collector.interventions import Intervention
from infoplane.wire import infoplane_pb2 as pb

_NOT_REPRESENTATION: Final = frozenset({"training_scalar", "training_announced"})


def report_of(seen: Observation, fault_step: int | None, page: str) -> dict[str, Any]:
    """Return the object of `--json`; everything but the injected step and the page comes from the topics."""
    return {
        "run": seen.run,
        "ranks": seen.ranks,
        "records_sent": round(seen.total(SENT)),
        "records_dropped": round(seen.total(DROPPED)),
        "windows": {"final": len(seen.final), "complete": len(seen.complete)},
        "fault": None if fault_step is None else _fault(seen.verdicts, fault_step),
        "verdicts": [verdict_fields(verdict) for verdict in seen.verdicts],
        "intervention": _intervention(seen.sent),
        "agent_overhead_ratio": seen.value(OVERHEAD),
        "page": page,
    }


def verdict_fields(verdict: pb.Verdict) -> dict[str, Any]:
    """Return a verdict as JSON-ready fields."""
    return {
        "id": verdict.id,
        "detector": verdict.detector,
        "severity": verdict.severity,
        "metric": verdict.metric,
        "window": verdict.window,
        "since_step": verdict.since_step,
        "detected_step": verdict.detected_step,
        "pattern": verdict.pattern,
        "sentence": verdict.sentence,
        "taps": _taps(verdict),
    }


def report_rows(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (what, value) for the table."""
    windows, overhead = report["windows"], report["agent_overhead_ratio"]
    rows = [
        ("run", report["run"]),
        ("ranks", str(report["ranks"])),
        ("windows", f"{windows['final']} final, {windows['complete']} complete"),
        ("records", f"{report['records_sent']} sent, {report['records_dropped']} dropped"),
        (
            "agent overhead",
            "-" if overhead is None else f"{overhead:.2%} of step time, all steps sampled",
        ),
    ]
    fault = report["fault"]
    if fault is None:
        rows.append(("fault", "none injected"))
    elif fault["detected_step"] is None:
        rows.append(("fault", f"injected at step {fault['injected_step']}, not detected"))
    else:
        spans = (fault["detected_step"] + 1 - fault["injected_step"]) / WINDOW_STEPS
        rows.append(
            (
                "fault",
                f"injected at step {fault['injected_step']}, detected at step "
                f"{fault['detected_step']} ({spans:.0f} windows) in {fault['metric']} of "
                f"{', '.join(fault['taps'])}",
            )
        )
    acted = report["intervention"]
    if acted is not None:
        rows.append(("intervention", _acted(acted)))
    rows += [(f"verdict, {one['severity']}", one["sentence"]) for one in report["verdicts"]]
    return rows


def _intervention(sent: Intervention | None) -> dict[str, Any] | None:
    """Return what was done, by which command, and the first step that each rank trained with it."""
    if sent is None:
        return None
    return {
        "action": sent.head.action,
        "value": sent.value,
        "stage": sent.stage,
        "applied_steps": {str(rank): step for rank, step in sent.applied_steps.items()},
        "audit_id": sent.id,
    }


def _acted(acted: dict[str, Any]) -> str:
    value = "" if acted["value"] is None else f" {acted['value']:g}"
    steps = [f"rank {rank} at step {step}" for rank, step in acted["applied_steps"].items()]
    return f"{acted['action']}{value} {acted['stage']}: {', '.join(steps) or 'by no rank'}"


def _fault(verdicts: list[pb.Verdict], fault_step: int) -> dict[str, Any]:
    """Return which verdict on a representation metric first saw the fault; what came before is a false alarm."""
    after = [
        verdict
        for verdict in verdicts
        if verdict.detected_step >= fault_step and verdict.metric not in _NOT_REPRESENTATION
    ]
    first = min(after, key=lambda verdict: verdict.detected_step, default=None)
    return {
        "injected_step": fault_step,
        "detected_step": first.detected_step if first else None,
        "metric": first.metric if first else None,
        "taps": _taps(first) if first else [],
    }


def _taps(verdict: pb.Verdict) -> list[str]:
    return sorted(
        {
            label.value
            for evidence in verdict.evidence
            for label in evidence.labels
            if label.name == "tap"
        }
    )
