from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest

from infoplane.collector.metrics import METRICS, Metric
from infoplane.collector.metrics.representation_metrics import REPRESENTATION_METRICS
from infoplane.dashboards import build_all, generated_files, write_artifacts
from infoplane.dashboards.alerts import ALERTS
from infoplane.exporter.families import COMPANIONS

ROOT = Path(__file__).parents[2]
RULES = ROOT / "dashboards/rules"
Require = Callable[[str, bool, str], None]


@pytest.fixture
def promtool(require: Require) -> Callable[..., None]:
    require("promtool", shutil.which("promtool") is not None, "promtool is not on PATH")

    def run(*arguments: str) -> None:
        done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


@pytest.mark.parametrize("name", sorted(generated_files()))
def test_generated_files_are_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == generated_files()[name], "run `make gen`"


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    assert len(write_artifacts(tmp_path)) == len(generated_files())
    assert write_artifacts(tmp_path) == []


def test_build_all_writes_beside_each_other(tmp_path: Path) -> None:
    names = [path.relative_to(tmp_path).as_posix() for path in build_all(tmp_path)]
    assert names == [
        "json/infoplane-overview.json",
        "json/infoplane-representations.json",
        "rules/infoplane.rules.yaml",
        "rules/infoplane.tests.yaml",
    ]
    assert all((tmp_path / name).stat().st_size for name in names)


def test_rules_are_valid(promtool: Callable[..., None]) -> None:
    promtool("check", "rules", str(RULES / "infoplane.rules.yaml"))


def test_every_alert_fires_and_stays_quiet(promtool: Callable[..., None]) -> None:
    promtool("test", "rules", str(RULES / "infoplane.tests.yaml"))


def test_the_scrape_example_is_valid(promtool: Callable[..., None]) -> None:
    promtool("check", "config", str(ROOT / "examples/prometheus/prometheus.yaml"))


def test_a_broken_rule_does_not_pass(promtool: Callable[..., None], tmp_path: Path) -> None:
    text = (RULES / "infoplane.rules.yaml").read_text().replace("> 0.01", "> 0.99")
    (tmp_path / "infoplane.rules.yaml").write_text(text)
    shutil.copy(RULES / "infoplane.tests.yaml", tmp_path)
    with pytest.raises(AssertionError, match="InfoplaneOverhead"):
        promtool("test", "rules", str(tmp_path / "infoplane.tests.yaml"))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_every_alert_has_its_section_in_the_runbook(alert: Any) -> None:
    assert f"\n## {alert.name}\n" in (ROOT / "docs/runbook.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    return dict(json.loads(generated_files()["dashboards/json/infoplane-overview.json"]))


def panels(board: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (panel for panel in board["panels"] if panel["type"] != "row")


def expressions(board: dict[str, Any]) -> Iterator[str]:
    for panel in panels(board):
        yield from (target["expr"] for target in panel["targets"])


def test_head_of_the_dashboard(board: dict[str, Any]) -> None:
    assert board["schemaVersion"] == 42
    assert board["uid"] == "infoplane-overview"
    assert board.get("id") is None
    assert board["tags"] == ["infoplane", "generated"]
    assert (board["timezone"], board["graphTooltip"], board["refresh"]) == ("browser", 1, "10s")
    assert board["editable"] is False


def test_variables(board: dict[str, Any]) -> None:
    variables = board["templating"]["list"]
    assert [one["name"] for one in variables] == ["DS_PROMETHEUS", "run", "layer", "estimator"]
    assert [one["type"] for one in variables] == ["datasource", "query", "query", "query"]
    assert all(one["refresh"] == 2 for one in variables[1:])
    assert variables[2]["multi"] is True
    assert variables[2]["includeAll"] is True


def test_panels_say_what_they_show(board: dict[str, Any]) -> None:
    for panel in panels(board):
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${DS_PROMETHEUS}"
        assert all(target["datasource"]["uid"] == "${DS_PROMETHEUS}" for target in panel["targets"])


def test_heatmaps_take_series_as_rows(board: dict[str, Any]) -> None:
    heatmaps = [panel for panel in panels(board) if panel["type"] == "heatmap"]
    assert len(heatmaps) == 3
    for panel in heatmaps:
        assert panel["options"]["calculate"] is False
        assert [target["legendFormat"] for target in panel["targets"]] == ["{{layer}}"]


def companions(metric: Metric) -> set[str]:
    return {one.name_for(metric).removeprefix("infoplane_") for one in COMPANIONS}


@pytest.mark.parametrize(
    "path", [path for path in sorted(generated_files()) if path.startswith("dashboards/json/")]
)
def test_every_query_of_every_dashboard_is_of_a_metric_that_is_exported(path: str) -> None:
    known = {m.name for m in METRICS} | {name for m in METRICS for name in companions(m)}
    own = "last_window_end_timestamp_seconds training_step verdicts_total interventions_total undefined_results"
    known |= {*own.split(), "series_rejected_total"}
    built = json.loads(generated_files()[path])
    for expr in expressions(built):
        promql_parser.parse(expr.replace("$__rate_interval", "5m"))
        used = re.findall(r"infoplane_(\w+)\{([^}]*)\}", expr)
        assert used, expr
        assert {name for name, _ in used} <= known
        assert all('run="$run"' in matchers for _, matchers in used)


def test_every_metric_of_representations_is_on_a_dashboard() -> None:
    built = json.loads(generated_files()["dashboards/json/infoplane-representations.json"])
    shown = {name for expr in expressions(built) for name in re.findall(r"infoplane_(\w+)\{", expr)}
    assert {metric.name for metric in REPRESENTATION_METRICS} <= shown


def test_expressions_parse_name_the_run_and_known_metrics(board: dict[str, Any]) -> None:
    known = {metric.name for metric in METRICS}
    known |= {name for metric in METRICS for name in companions(metric)}
    known |= {
        "last_window_end_timestamp_seconds",
        "training_step",
        "verdicts_total",
        "interventions_total",
        "undefined_results",
    }
    known |= {"series_rejected_total"}
    for expr in expressions(board):
        promql_parser.parse(expr.replace("$__rate_interval", "5m"))
        used = re.findall(r"infoplane_(\w+)\{([^}]*)\}", expr)
        assert used, expr
        for name, matchers in used:
            assert name in known
            assert 'run="$run"' in matchers


def test_rates_use_the_rate_interval(board: dict[str, Any]) -> None:
    ranges = [found for expr in expressions(board) for found in re.findall(r"\[([^\]]*)\]", expr)]
    assert ranges
    assert set(ranges) == {"$__rate_interval"}
