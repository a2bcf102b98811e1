"""`infoplane run -- COMMAND`."""

from __future__ import annotations

from typing import Annotated

import typer


def run(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND", help="What starts the training, and its arguments."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--run", metavar="NAME", help="Name of the run [run].")
    ] = None,
    transport: Annotated[
        str | None, typer.Option("--transport", help="How records leave [transport].")
    ] = None,
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(
            "--bootstrap-servers",
            "--bootstrap",
            metavar="HOST:PORT",
            help="Brokers [kafka.bootstrap_servers].",
        ),
    ] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any setting of the agent; may be given several times.",
        ),
    ] = None,
    is_dry: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print what would be added to the environment, as .deepspeed_env takes it.",
        ),
    ] = False,
) -> None:
    """Start a training under the agent, without a change to its code.

    The command takes the place of this process: its exit code is the exit code. 2 wrong usage or setting, 126 and 127
    as of a shell. Without this command: python -m infoplane.agent.run -- COMMAND.
    """
    from infoplane.agent.run.__main__ import start

    code = start(
        command or [],
        pairs or [],
        run=name,
        transport=transport,
        bootstrap_servers=bootstrap_servers,
        is_dry=is_dry,
    )
    raise typer.Exit(code)
