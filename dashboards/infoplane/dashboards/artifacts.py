"""The generated files, by their path in the repository."""

from __future__ import annotations

from pathlib import Path

from infoplane.dashboards.alert_tests import alert_tests_yaml
from infoplane.dashboards.metrics_page import metrics_page
from infoplane.dashboards.overview import overview_json
from infoplane.dashboards.representations import representations_json
from infoplane.dashboards.rules import rules_yaml


def generated_files() -> dict[str, str]:
    """Return path -> text of every generated file. Equal registries give equal text."""
    return {
        "dashboards/json/infoplane-overview.json": overview_json(),
        "dashboards/json/infoplane-representations.json": representations_json(),
        "dashboards/rules/infoplane.rules.yaml": rules_yaml(),
        "dashboards/rules/infoplane.tests.yaml": alert_tests_yaml(),
        "docs/metrics.md": metrics_page(),
    }


def build_all(directory: Path) -> list[Path]:
    """Write the dashboard and the rules to json/ and rules/ under `directory`, and return all their paths."""
    paths = []
    for name, text in generated_files().items():
        place = Path(name)
        if place.parts[0] == "dashboards":
            path = directory / place.relative_to("dashboards")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            paths.append(path)
    return paths


def write_artifacts(root: Path) -> list[Path]:
    """Write the generated files under `root`, and return those that changed."""
    changed = []
    for name, text in generated_files().items():
        path = root / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        changed.append(path)
    return changed
