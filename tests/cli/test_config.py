"""`infoplane config`: what is set, by whom, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_show_says_where_each_value_comes_from(
    invoke: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "infoplane.yaml"
    file.write_text("version: 1\nwatch:\n  threshold: 9.5\nexporter:\n  port: 1234\n")
    monkeypatch.setenv("INFOPLANE_EXPORTER__PORT", "4321")
    out = invoke("config", "show", "--config", file, "--json")
    assert out.code == 0, out.stderr
    shown = out.json()
    assert shown["watch.threshold"] == {"value": 9.5, "origin": "file"}
    assert shown["exporter.port"] == {"value": 4321, "origin": "environment"}
    assert shown["watch.of"]["origin"] == "default"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("watch:\n  threshold: -1\n", "watch.threshold"),
        ("watch:\n  treshold: 5\n", "watch.treshold"),
        ("wach: {}\n", "wach"),
        ("version: 2\n", "version"),
    ],
)
def test_check_names_what_is_wrong_in_a_file(
    invoke: Any, tmp_path: Path, text: str, key: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    out = invoke("config", "check", file)
    assert out.code == 3
    assert f"infoplane: {key} = " in out.stderr


def test_check_of_a_missing_file(invoke: Any, tmp_path: Path) -> None:
    out = invoke("config", "check", tmp_path / "none.yaml")
    assert out.code == 3
    assert "none.yaml" in out.stderr


def test_check_warns_of_variables_that_mean_nothing(
    invoke: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFOPLANE_SAMPLING__BASE_LEVLE", "2")
    out = invoke("config", "check", "--json")
    assert out.code == 0
    assert out.json() == {"valid": True, "unknown_environment": ["INFOPLANE_SAMPLING__BASE_LEVLE"]}
    assert "warning: INFOPLANE_SAMPLING__BASE_LEVLE" in out.stderr


def test_schema_describes_every_section(invoke: Any) -> None:
    schema = invoke("config", "schema").json()
    assert {"kafka", "assemble", "estimate", "exporter", "watch"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_the_example_is_valid_and_its_bare_key_off_is_a_key(invoke: Any) -> None:
    example = Path(__file__).parents[2] / "examples" / "infoplane.yaml"
    assert invoke("config", "check", example).code == 0
    shown = invoke("config", "show", "--config", example, "--json").json()
    assert shown["estimate.off"] == {"value": ["usable_accuracy_ratio"], "origin": "file"}
