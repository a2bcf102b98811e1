"""Collections: taps with a unit and a cadence of their own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from infoplane.agent import attach
from infoplane.agent.discovery import discover
from infoplane.agent.settings import TapsSettings
from infoplane.agent.sources import SourceError, load
from infoplane.agent.tap_collections import parse_collections
from infoplane.wire import ConfigurationError


def test_the_flat_form_is_read() -> None:
    found = parse_collections(" detail=attn|mlp@8 ; slow=^0[0-3]/act$@6;")
    assert [(one.name, one.pattern.pattern, one.level) for one in found] == [
        ("detail", "attn|mlp", 8),
        ("slow", "^0[0-3]/act$", 6),
    ]
    assert parse_collections("") == ()


@pytest.mark.parametrize(
    "text",
    ["detail", "detail=attn", "detail=@3", "=attn@3", "Detail=attn@3", "a/b=attn@3", "detail=attn@x",
     "detail=attn@-1", "detail=attn@21", "detail=(@3", "layers=attn@3", "joint=attn@3", "a=x@1;a=y@2"],
)  # fmt: skip
def test_mistakes_name_the_key_the_value_and_the_form(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"taps.collections": text}, {})
    assert caught.value.key == "taps.collections"
    assert caught.value.value == text


def test_a_mistake_in_the_environment_is_logged_and_never_raised(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SourceError):
        load({}, {"INFOPLANE_TAPS__COLLECTIONS": "detail"})
    monkeypatch.setenv("INFOPLANE_TAPS__COLLECTIONS", "detail")
    with caplog.at_level(logging.ERROR):
        assert not attach(nn.Linear(2, 2), config={"transport": "memory"}).enabled
    assert "taps.collections" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "environment", "section"),
    [
        ({"taps": {"collections": "slow=act@2"}}, {}, {}),
        ({}, {"INFOPLANE_TAPS__COLLECTIONS": "slow=act@2"}, {}),
        ({}, {}, {"taps": {"collections": "slow=act@2"}}),
    ],
)
def test_one_text_works_from_every_source(arguments: Any, environment: Any, section: Any) -> None:
    assert load(arguments, environment, section).taps.collections == "slow=act@2"


def test_a_collection_fires_at_its_own_level(make_loop: Callable[..., Any]) -> None:
    loop = make_loop(**{"taps.collections": "slow=act@2;fast=02/block@0"})
    for _ in range(9):
        loop.step()
    records = loop.records("sketch")
    steps: dict[str, list[int]] = {}
    for record in records:
        steps.setdefault(record.unit, []).append(record.step)
    assert steps == {
        "layers/00-02": list(range(9)), "fast/00-02": list(range(9)), "slow/00-02": [0, 4, 8],
    }  # fmt: skip
    slow = [record for record in records if record.unit == "slow/00-02"]
    assert {tap.tap for record in slow for tap in record.sketch.taps} == {"00/act", "01/act", "02/act"}  # fmt: skip
    assert {record.sender.level for record in slow} == {2}
    assert {record.sender.level for record in records if record.unit == "fast/00-02"} == {0}
    own = {tap.tap for r in records if r.unit == "layers/00-02" for tap in r.sketch.taps}
    assert own == {"embed", "final_norm", "00/block", "01/block"}
    assert [record.seq for record in slow] == sorted(record.seq for record in slow)


def test_every_step_between_says_nothing_of_the_collection(make_loop: Callable[..., Any]) -> None:
    """The unit is in the heartbeats with its level, so nobody waits for the steps between."""
    loop = make_loop(**{"taps.collections": "slow=act@4", "heartbeat_s": 0.05})
    for _ in range(3):
        loop.step()
    byes = [r for r in loop.records("bye") if r.unit == "slow/00-02"]
    assert [record.sender.level for record in byes] == [4]


def test_a_collection_switches_on_what_its_profile_leaves_out(make_model: Callable[..., Any]) -> None:  # fmt: skip
    found = discover(make_model(), TapsSettings(collections="detail=mlp@8"))
    detail = [tap.name for tap in found.taps if tap.collection == "detail"]
    assert detail == ["00/mlp", "01/mlp", "02/mlp"]
    off = discover(make_model(), TapsSettings(collections="detail=mlp@8", mlp="off"))
    assert not [tap for tap in off.taps if tap.collection]
