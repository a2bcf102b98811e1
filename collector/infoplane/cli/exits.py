"""Exit codes of the command, and the boundary that turns errors into one line and a code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from enum import IntEnum

from infoplane.wire.errors import (
    ConfigurationError,
    InfoplaneError,
    TransportError,
    UndefinedMetricError,
)


class ExitCode(IntEnum):
    """What the shell sees. Ended by a signal: 128 + its number."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    CONFIGURATION = 3
    UNREACHABLE = 4
    CHECK_FAILED = 5
    INTERRUPTED = 130
    TERMINATED = 143


class CheckFailedError(InfoplaneError):
    """A check that the user asked for did not pass; the details are on stdout already."""


_CODES: tuple[tuple[type[InfoplaneError], ExitCode], ...] = (
    (ConfigurationError, ExitCode.CONFIGURATION),
    (UndefinedMetricError, ExitCode.USAGE),
    (TransportError, ExitCode.UNREACHABLE),
    (CheckFailedError, ExitCode.CHECK_FAILED),
)


def run_within(command: Callable[[], object]) -> int:
    """Run `command` and return the exit code; errors become one line on stderr.

    `INFOPLANE_DEBUG=1` prints the traceback too.
    """
    try:
        command()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone, as after `| head`; Python must not try to flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except InfoplaneError as error:
        _say(str(error))
        return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.UNEXPECTED)
    except Exception as error:  # noqa: BLE001 - this is the outermost boundary
        _say(f"unexpected {type(error).__name__}: {error} (INFOPLANE_DEBUG=1 shows where)")
        return ExitCode.UNEXPECTED
    return ExitCode.OK


def _say(message: str) -> None:
    if os.environ.get("INFOPLANE_DEBUG", "0") not in {"", "0"}:
        traceback.print_exc()
    print(f"infoplane: {message}", file=sys.stderr)  # noqa: T201 - people read this
