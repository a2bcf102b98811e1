"""docs/architecture.md names every configuration key, as it is."""

from __future__ import annotations

from pathlib import Path

from infoplane.cli.configuration import all_keys, markdown_table

PAGE = Path(__file__).parents[1] / "docs/architecture.md"


def test_the_page_holds_the_generated_table() -> None:
    assert markdown_table() in PAGE.read_text(), "run `make gen`"


def test_every_key_has_a_meaning_and_an_environment_name() -> None:
    for key in all_keys():
        assert key.help, key.name
        assert key.environment == "INFOPLANE_" + key.name.upper().replace(".", "__")


def test_keys_that_agent_and_services_share_have_one_default() -> None:
    from infoplane.cli.configuration import agent_keys, service_keys

    agent = {key.name: key.default for key in agent_keys()}
    for key in service_keys():
        if key.name in agent:
            assert agent[key.name] == key.default, key.name
