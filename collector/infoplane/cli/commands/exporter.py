"""`infoplane exporter`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from infoplane.cli.flags import Bootstrap, ConfigFile, Json, Prefix, settings_from
from infoplane.cli.service import run_until_stopped
from infoplane.cli.signals import StopSignal


def exporter(
    bootstrap: Bootstrap = None,
    prefix: Prefix = None,
    config: ConfigFile = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on [exporter.host].")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port of /metrics and the page, 0 = any [exporter.port].")
    ] = None,
    as_json: Json = False,
) -> None:
    """Serve the newest estimates at /metrics and the live page at /, on one port."""
    settings = settings_from(config, bootstrap, prefix, exporter={"host": host, "port": port})

    def run(stop: StopSignal, on_ready: Callable[..., None]) -> None:
        from infoplane.exporter import serve

        serve(settings, stop, lambda page: on_ready(page=page))

    run_until_stopped("exporter", run, as_json=as_json)
