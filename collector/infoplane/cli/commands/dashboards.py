"""`infoplane dashboards build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infoplane.cli.output import emit

app = typer.Typer(name="dashboards", help="Build dashboards and rules.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `build` a command of its own although it is the only one."""


@app.command("build")
def build(
    directory: Annotated[Path, typer.Argument(help="Where json/ and rules/ are written.")] = Path(
        "dashboards"
    ),
) -> None:
    """Write the Grafana dashboards and the Prometheus rules, and print each file."""
    from infoplane.dashboards import build_all

    for path in build_all(directory):
        emit(str(path))
