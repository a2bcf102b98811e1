"""`infoplane config show|schema|check|table|push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from infoplane.cli.commands.config_push import push
from infoplane.cli.flags import ConfigFile, Json, settings_from
from infoplane.cli.output import emit, emit_json, emit_table, say

app = typer.Typer(
    name="config", help="Show and check settings; direct running agents.", no_args_is_help=True
)


app.command("push")(push)


@app.command("show")
def show(config: ConfigFile = None, as_json: Json = False) -> None:
    """Print the merged settings of the services, and which source set each value."""
    from infoplane.cli.configuration import origin, read_document, service_keys

    settings = settings_from(config)
    document = read_document()
    rows = [
        (key.name, _value_of(settings, key.name), origin(key, document)) for key in service_keys()
    ]
    if as_json:
        emit_json({name: {"value": value, "origin": source} for name, value, source in rows})
        return
    emit_table(("KEY", "VALUE", "ORIGIN"), rows)


@app.command("schema")
def schema() -> None:
    """Print the JSON Schema of the YAML file."""
    from infoplane.collector.settings import Settings

    emit_json(Settings.model_json_schema(), indent=2)


@app.command("check")
def check(
    file: Annotated[Path | None, typer.Argument(help="YAML file; without it the environment.")] = (
        None
    ),
    as_json: Json = False,
) -> None:
    """Check a file and the environment; a wrong value ends with exit code 3, an unknown variable is a warning."""
    from infoplane.cli.configuration import unknown_variables

    settings_from(file)
    unknown = unknown_variables()
    for name in unknown:
        say(f"warning: {name} is no setting of infoplane")
    if as_json:
        emit_json({"valid": True, "unknown_environment": unknown})
    else:
        emit("valid")


@app.command("table")
def table() -> None:
    """Print the table of every key as Markdown, as docs/architecture.md has it."""
    from infoplane.cli.configuration import markdown_table

    emit(markdown_table())


def _value_of(settings: Any, key: str) -> Any:
    for part in key.split("."):
        settings = getattr(settings, part)
    return settings
