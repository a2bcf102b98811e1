"""promtool's tests of the alerts: one case that fires and one that stays quiet, each."""

from __future__ import annotations

from typing import Any

from infoplane.dashboards.alerts import ALERTS, RUNBOOK, Alert, Sample
from infoplane.dashboards.rules import GENERATED, to_yaml

_AT = "10m"


def alert_tests_yaml() -> str:
    """Return the test file; paths are relative to its folder."""
    tests = [case for alert in ALERTS for case in (_case(alert, True), _case(alert, False))]
    content = {
        "rule_files": ["infoplane.rules.yaml"],
        "evaluation_interval": "30s",
        "tests": tests,
    }
    return GENERATED + to_yaml(content)


def _case(alert: Alert, fires: bool) -> dict[str, Any]:
    at = _AT if fires or alert.name != "InfoplaneVerdict" else "30m"
    expected = [_expected(alert)] if fires else []
    return {
        "name": f"{alert.name} {'fires' if fires else 'stays quiet'}",
        "interval": "30s",
        "input_series": [_series(sample) for sample in (alert.firing if fires else alert.quiet)],
        "alert_rule_test": [{"eval_time": at, "alertname": alert.name, "exp_alerts": expected}],
    }


def _series(sample: Sample) -> dict[str, str]:
    return {"series": sample.series, "values": sample.values}


def _expected(alert: Alert) -> dict[str, Any]:
    return {
        "exp_labels": {"severity": alert.severity, **alert.labels},
        "exp_annotations": {
            "summary": alert.wording,
            "description": alert.description,
            "runbook_url": f"{RUNBOOK}#{alert.name.lower()}",
        },
    }
