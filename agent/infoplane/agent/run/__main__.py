"""`python -m infoplane.agent.run -- COMMAND`: `infoplane run` where only the base install is."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from infoplane.agent.run import launch
from infoplane.wire import ConfigurationError


def parser() -> argparse.ArgumentParser:
    """Return the parser; everything from the first word that is not ours on is the command."""
    made = argparse.ArgumentParser(
        prog="python -m infoplane.agent.run",
        description="Start COMMAND with the agent in all its Python processes; the training script stays as it is.",
        epilog="Exit codes: the command's own; 2 wrong usage, 126 and 127 as of a shell.",
    )
    made.add_argument("--run", metavar="NAME", help="name of the run [run]")
    made.add_argument("--transport", help="how records leave [transport]")
    made.add_argument(
        "--bootstrap-servers", metavar="HOST:PORT", help="brokers [kafka.bootstrap_servers]"
    )
    made.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="any setting of the agent"
    )
    made.add_argument(
        "--dry-run", action="store_true", help="print what would be added to the environment"
    )
    made.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Become the command; return an exit code only where that is not possible or not wanted."""
    given = parser().parse_args(arguments)
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    return start(
        command,
        given.set,
        run=given.run,
        transport=given.transport,
        bootstrap_servers=given.bootstrap_servers,
        is_dry=given.dry_run,
    )


def start(
    command: Sequence[str],
    pairs: Sequence[str],
    *,
    run: str | None = None,
    transport: str | None = None,
    bootstrap_servers: str | None = None,
    is_dry: bool = False,
) -> int:
    """Become `command` with the settings of the flags; return an exit code where that does not happen.

    With `is_dry`, what would be added to the environment is printed instead, as lines that `.deepspeed_env` takes.
    """
    try:
        found = launch.variables(
            pairs, run=run, transport=transport, bootstrap_servers=bootstrap_servers
        )
    except ConfigurationError as error:
        return _refuse(str(error), launch.USAGE)
    added = launch.additions(found, os.environ)
    if is_dry:
        for name, value in added.items():
            print(f"{name}={value}")  # noqa: T201 - what the user asked for
        return 0
    if not command:
        return _refuse("no command: infoplane run [FLAGS] -- torchrun train.py", launch.USAGE)
    try:
        launch.execute(command, added)
    except OSError as error:
        return _refuse(str(error), launch.exit_code(error))


def _refuse(message: str, code: int) -> int:
    print(f"infoplane: {message}", file=sys.stderr)  # noqa: T201 - people read this
    return code


if __name__ == "__main__":
    sys.exit(main())
