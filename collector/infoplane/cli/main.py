"""The `infoplane` command: one typer application, one error boundary."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from infoplane.cli.commands import config, dashboards, interventions, metrics, topics
from infoplane.cli.commands.collector import collector
from infoplane.cli.commands.controller import controller
from infoplane.cli.commands.demo import demo
from infoplane.cli.commands.doctor import doctor
from infoplane.cli.commands.estimate import estimate
from infoplane.cli.commands.exporter import exporter
from infoplane.cli.commands.local import local
from infoplane.cli.commands.replay import replay
from infoplane.cli.commands.run import run
from infoplane.cli.exits import run_within

app = typer.Typer(
    name="infoplane",
    help="A live information-plane monitor for large-model training.",
    epilog="Exit codes: 0 ok, 1 unexpected error, 2 usage, 3 invalid configuration, "
    "4 dependency unreachable, 5 check failed, 130 and 143 ended by a signal.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for command in (demo, local, collector, exporter, controller, estimate, replay, doctor):
    app.command()(command)
# What follows the first word that is no flag belongs to the command that is started.
app.command(context_settings={"allow_interspersed_args": False})(run)
for group in (metrics, topics, config, dashboards, interventions):
    app.add_typer(group.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("infoplane"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Hold the options that belong to no command."""


def main() -> None:
    """Run the command line and leave with its exit code."""
    sys.exit(run_within(app))


if __name__ == "__main__":
    main()
