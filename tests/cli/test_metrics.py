"""`infoplane metrics`: the registry as people and programs see it."""

from __future__ import annotations

from typing import Any

from infoplane.collector.metrics import METRICS


def test_list_names_every_metric(invoke: Any) -> None:
    out = invoke("metrics", "list", "--json")
    assert out.code == 0
    assert [one["name"] for one in out.json()] == [metric.name for metric in METRICS]
    assert {"name", "unit", "help", "labels", "sources", "kind", "papers"} <= set(out.json()[0])


def test_list_is_a_table_for_people(invoke: Any) -> None:
    lines = invoke("metrics", "list").stdout.splitlines()
    assert lines[0].split() == ["METRIC", "UNIT", "ESTIMATORS", "ARRAYS"]
    assert [line.split()[0] for line in lines[1:]] == [metric.name for metric in METRICS]


def test_show_tells_what_a_metric_needs(invoke: Any) -> None:
    out = invoke("metrics", "show", "infoplane_mutual_information_nats")
    assert out.code == 0
    for word in ("heldout_ksg", "gaussian", "array x", "array labels", "option permutations"):
        assert word in out.stdout


def test_show_of_an_unknown_metric_is_a_usage_error(invoke: Any) -> None:
    out = invoke("metrics", "show", "nothing")
    assert out.code == 2
    assert out.stdout == ""
