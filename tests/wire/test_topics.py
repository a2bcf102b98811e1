"""Topics and keys: names that brokers take, and peers that meet in one partition."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoplane.wire import ConfigurationError
from infoplane.wire.topics import (
    HEADERS,
    TOPICS,
    Names,
    check_run_name,
    record_key,
    run_key,
    series_key,
)


def test_topics_are_frozen() -> None:
    # Renaming a topic or its cleanup loses the data of running deployments.
    assert [(t.name, t.compacted) for t in TOPICS] == [
        ("records", False),
        ("events", False),
        ("windows", False),
        ("results", False),
        ("latest", True),
        ("verdicts", False),
        ("state", True),
        ("dead", False),
        ("control", False),
        ("audit", False),
        ("config", True),
    ]
    assert all(t.partitions >= 1 and t.retention_hours >= 1 for t in TOPICS)


@given(prefix=st.text(max_size=70))
def test_a_prefix_gives_legal_topic_names_or_a_configuration_error(prefix: str) -> None:
    try:
        names = Names(prefix)
    except ConfigurationError:
        assert not re.fullmatch(r"[A-Za-z0-9._-]{0,64}", prefix)
        return
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,249}", names.of(t)) for t in TOPICS)


@pytest.mark.parametrize("run", ["", "a|b", "a b", "-a", "x" * 129, "a\n", "ü"])
def test_run_names_that_would_break_keys_are_refused(run: str) -> None:
    with pytest.raises(ConfigurationError, match="run = "):
        check_run_name(run)


def test_keys() -> None:
    assert check_run_name("llama-3.1_8B") == "llama-3.1_8B"
    assert record_key("r", "layers/00-07") == b"r|layers/00-07"
    assert run_key("r") == b"r"
    assert series_key("r", "entropy", (("layer", "07"), ("tap", "block"))) == (
        b"r|entropy|layer=07|tap=block"
    )
    assert series_key("r", "loss", ()) == b"r|loss"


def test_headers_name_the_schema() -> None:
    assert dict(HEADERS) == {
        "content-type": b"application/x-infoplane-protobuf",
        "schema-version": b"1",
    }
