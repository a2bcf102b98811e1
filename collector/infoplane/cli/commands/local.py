"""`infoplane local`."""

from __future__ import annotations

from typing import Annotated

import typer

from infoplane.cli.flags import Json


def local(
    port: Annotated[int, typer.Option(help="Port of /metrics and the page, 0 = any.")] = 9464,
    broker_port: Annotated[int, typer.Option(help="Port of the broker, 0 = any.")] = 9092,
    bootstrap: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="A running broker instead of the embedded one."),
    ] = None,
    prefix: Annotated[str, typer.Option(help="Prefix of every topic.")] = "infoplane.",
    as_json: Json = False,
) -> None:
    """Run broker, collector, exporter and controller here, for a training job of your own.

    Prints the environment to set for the job. The embedded broker keeps everything in memory.
    """
    from infoplane.cli.pipeline import PipelineOptions
    from infoplane.cli.standing import run_local

    options = PipelineOptions(bootstrap, prefix, port, broker_port)
    code = run_local(options, as_json=as_json)
    if code:
        raise typer.Exit(code)
