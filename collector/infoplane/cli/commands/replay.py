"""`infoplane replay FILE`: a recorded log through the stages, without a broker."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infoplane.cli.flags import ConfigFile, Json, Prefix, settings_from


def replay(
    file: Annotated[Path, typer.Argument(help="A log, or a folder with one log per rank.")],
    prefix: Prefix = None,
    config: ConfigFile = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Also write what comes out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the records of FILE through ASSEMBLE, ESTIMATE and WATCH; prints the last value per series.

    --json prints every result and verdict, one a line.
    """
    from infoplane.cli.replaying import replay_file

    settings = settings_from(config, None, prefix)
    replay_file(file, settings, output=output, as_json=as_json)
