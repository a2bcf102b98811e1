"""Settings: precedence, errors, and what the documentation is generated from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from infoplane.agent.settings import Settings, describe, options
from infoplane.agent.sources import SourceError, load
from infoplane.wire import ConfigurationError


def test_argument_beats_environment_beats_section_beats_default() -> None:
    environment = {"INFOPLANE_SAMPLING__BASE_LEVEL": "2", "INFOPLANE_HEARTBEAT_S": "7.5"}
    section = {"sampling": {"base_level": 3, "width": 16}, "heartbeat_s": 9, "run": "from-section"}
    found = load({"sampling": {"base_level": 1}}, environment, section)
    assert found.sampling.base_level == 1
    assert found.heartbeat_s == 7.5
    assert found.sampling.width == 16
    assert found.run == "from-section"
    assert found.buffers == Settings().buffers
    assert found.interval == 2


def test_nested_and_dotted_keys_are_the_same() -> None:
    nested: Mapping[str, Any] = {"tokens": {"mode": "ids"}, "taps": {"block": False}}
    assert load(nested, {}) == load({"tokens.mode": "ids", "taps.block": "off"}, {})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("sampling.base_levle", 3, "sampling.base_level"),
        ("sampling.base_level", "four", "whole number from 0 to 20"),
        ("sampling.base_level", 21, "from 0 to 20"),
        ("sampling.base_level", True, "whole number"),
        ("heartbeat_s", float("nan"), "a number"),
        ("transport", "carrier-pigeon", "kafka | file | memory | none"),
        ("tokens.mode", "all", "buckets | ids | none"),
        ("enabled", "perhaps", "on or off"),
        ("taps.block", "h.(", "regular expression"),
        ("run", "a b", "letters, digits"),
        ("kafka.topic_prefix", "a/b", "letters, digits"),
        ("kafka.api_version", "new", "major.minor"),
        ("attempt", -1, "of at least 0"),
    ],
)
def test_a_mistake_names_key_value_and_what_was_expected(
    key: str, value: object, expected: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({key: value}, {})
    assert not isinstance(caught.value, SourceError)
    assert key in str(caught.value)
    assert repr(value) in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("environment", "section"),
    [({"INFOPLANE_TRANSPORT": "pigeon"}, {}), ({}, {"transport": "pigeon"}), ({}, {"unknown": 1})],
)
def test_a_mistake_outside_the_code_can_be_told_apart(
    environment: dict[str, str], section: dict[str, Any]
) -> None:
    with pytest.raises(SourceError):
        load({}, environment, section)


def test_unknown_environment_names_give_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    environment = {
        "INFOPLANE_SAMPLIGN__WIDTH": "3",
        "INFOPLANE_TYPO": "x",
        "INFOPLANE_KAFKA__PARTITIONS": "8",
        "INFOPLANE_ASSEMBLE__DEADLINE_S": "3",
        "INFOPLANE_REQUIRE": "kafka",
        "OTHER": "1",
    }
    with caplog.at_level(logging.WARNING, "infoplane.agent"):
        assert load({}, environment) == Settings()
    assert len(caplog.records) == 1
    assert "INFOPLANE_SAMPLIGN__WIDTH, INFOPLANE_TYPO" in caplog.text
    assert "KAFKA" not in caplog.text


@pytest.mark.parametrize("word", ["0", "false", "off", "No"])
def test_words_for_off(word: str) -> None:
    assert load({}, {"INFOPLANE_ENABLED": word}).enabled is False


def test_every_option_describes_itself_and_can_be_set_from_the_environment() -> None:
    rows = describe()
    assert len(rows) == len({key for key, *_ in rows}) == len(list(options()))
    environment = {name: str(default) for _, name, default, _ in rows if default is not None}
    assert load({}, environment) == Settings()
    assert all(help_ and "\n" not in help_ for *_, help_ in rows)
    assert ("kafka.bootstrap_servers", "INFOPLANE_KAFKA__BOOTSTRAP_SERVERS") in {
        (key, name) for key, name, *_ in rows
    }
