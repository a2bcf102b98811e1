"""`infoplane dashboards build`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infoplane.cli.exits import CheckFailedError
from infoplane.cli.output import emit

app = typer.Typer(name="dashboards", help="Build dashboards and rules.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `build` a command of its own although it is the only one."""


@app.command("build")
def build(
    root: Annotated[Path, typer.Argument(help="Folder that gets dashboards/ and docs/.")] = (
        Path()
    ),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 5 if a file is not current.")
    ] = False,
) -> None:
    """Write the Grafana dashboard, the Prometheus rules and the metrics page, and print the files that changed."""
    from infoplane.dashboards import generated_files, write_artifacts

    if not check:
        for path in write_artifacts(root):
            emit(str(path))
        return
    old = [name for name, text in generated_files().items() if not _is_current(root / name, text)]
    for name in old:
        emit(name)
    if old:
        raise CheckFailedError(f"{len(old)} generated files are not current")


def _is_current(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
