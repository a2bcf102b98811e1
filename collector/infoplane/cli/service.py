"""What the long-running commands have in common: a log on stderr, one line when ready, an orderly end."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import typer

from infoplane.cli.output import emit, emit_json
from infoplane.cli.signals import StopSignal, stop_on_signals


def run_until_stopped(
    name: str, run: Callable[[StopSignal, Callable[..., None]], None], *, as_json: bool
) -> None:
    """Call `run(stop, on_ready)`; it returns after SIGINT or SIGTERM, and the exit code says which.

    `on_ready(**facts)` prints the one line that the service writes to stdout.
    """
    logging.basicConfig(
        level=os.environ.get("INFOPLANE_LOG_LEVEL", "WARNING").upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )

    def on_ready(**facts: str) -> None:
        if as_json:
            emit_json({"service": name, "ready": True, **facts})
        else:
            emit(" ".join([f"{name} ready", *facts.values()]))

    with stop_on_signals() as stop:
        run(stop, on_ready)
    if stop.exit_code:
        raise typer.Exit(stop.exit_code)
