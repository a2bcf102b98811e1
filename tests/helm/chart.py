"""All that the tests know of helm_python: a young package, so that only this file changes with it.

It is Helm's own Go library without a binary. Known gaps of 0.2.2: `render` cannot be told API versions, and does not
enforce the chart's kubeVersion.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm/infoplane"
SCENARIOS = sorted(path.name.removesuffix("-values.yaml") for path in CHART.glob("ci/*.yaml"))
RELEASE = "test"
NOTES = "infoplane/templates/NOTES.txt"


class Refused(Exception):  # noqa: N818 - what the tests wait for
    """Helm refuses the values or cannot render them; the message is what a user reads."""


def scenario(name: str) -> dict[str, Any]:
    """Return the values of ci/<name>-values.yaml as Helm reads them, which is not quite as PyYAML does."""
    import helm_python

    text = (CHART / f"ci/{name}-values.yaml").read_text(encoding="utf-8")
    return helm_python.values_from_yaml(text)


def with_value(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy of `values` with `value` at the dotted `path`."""
    changed = copy.deepcopy(values)
    *parents, last = path.split(".")
    place = changed
    for part in parents:
        place = place.setdefault(part, {})
    place[last] = value
    return changed


def lint(values: dict[str, Any]) -> list[str]:
    """Return the warnings and errors of `helm lint --strict`."""
    import helm_python

    report = helm_python.lint(CHART, values, strict=True)
    return [one["error"] for one in report["messages"] if one["severity"] >= 2] + report["errors"]


def render(values: dict[str, Any]) -> dict[str, str]:
    """Return template -> text, as `helm template` would.

    Raises:
        Refused: by the schema or by a template.
    """
    import helm_python

    with helm_python.Chart.load(CHART) as chart:
        try:
            return chart.render(values, name=RELEASE, namespace="monitoring", is_install=True)
        except helm_python.HelmError as error:
            raise Refused(str(error)) from None


def manifests(values: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rendered objects."""
    texts = [text for name, text in render(values).items() if name != NOTES]
    return [one for text in texts for one in yaml.safe_load_all(text) if one is not None]


def one_of(objects: list[dict[str, Any]], kind: str, suffix: str = "") -> dict[str, Any]:
    """Return the only object of `kind` whose name ends like that."""
    (found,) = (
        one for one in objects if one["kind"] == kind and one["metadata"]["name"].endswith(suffix)
    )
    return found
