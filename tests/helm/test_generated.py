"""The generated parts of the chart are those of the code and of the dashboards as they are now."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts/generate_chart.py"))


def test_the_chart_is_up_to_date(script: dict[str, Any]) -> None:
    assert script["outdated"]() == [], "run scripts/generate_chart.py"


def test_every_dashboard_and_rule_is_copied(script: dict[str, Any]) -> None:
    names = {path.name for path in script["generated"]()}
    assert {path.name for path in (ROOT / "dashboards/json").glob("*.json")} <= names
    assert "infoplane.rules.yaml" in names
    assert "infoplane.tests.yaml" not in names


def test_what_is_written_by_hand_survives(script: dict[str, Any]) -> None:
    schema = (ROOT / "helm/infoplane/values.schema.json").read_text()
    assert script["with_settings"](schema) == schema
    assert '"environmentVariable"' in schema


def test_the_chart_carries_the_version_of_the_package() -> None:
    import re

    import yaml

    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    chart = yaml.safe_load((ROOT / "helm/infoplane/Chart.yaml").read_text())
    assert chart["appVersion"] == version
