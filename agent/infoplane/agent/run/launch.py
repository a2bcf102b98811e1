"""From flags to the environment of the command, and the command in place of this process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NoReturn

from infoplane.agent.settings import environment_name
from infoplane.agent.sources import load
from infoplane.wire import ConfigurationError

AUTOLOAD: Final = Path(__file__).parent / "autoload"
USAGE: Final = 2
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127


def variables(
    pairs: Iterable[str],
    *,
    run: str | None = None,
    transport: str | None = None,
    bootstrap_servers: str | None = None,
) -> dict[str, str]:
    """Return the INFOPLANE_ variables of the flags, checked, by name.

    Args:
        pairs: `key=value` each, as of --set; a later one wins over an earlier one.
        run: --run; this and the next two win over `pairs`.
        transport: --transport.
        bootstrap_servers: --bootstrap-servers.

    Raises:
        ConfigurationError: a pair has no `=`, or key or value are wrong.
    """
    values = dict(_split(pair) for pair in pairs)
    named = {"run": run, "transport": transport, "kafka.bootstrap_servers": bootstrap_servers}
    values |= {key: value for key, value in named.items() if value is not None}
    load(values, {})
    return {environment_name(key): value for key, value in values.items()}


def python_path(environment: Mapping[str, str]) -> str:
    """Return PYTHONPATH with our folder in front, once."""
    others = environment.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([str(AUTOLOAD), *(p for p in others if p and p != str(AUTOLOAD))])


def additions(found: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return everything that is added to `environment`: the variables `found`, and PYTHONPATH."""
    return {**found, "PYTHONPATH": python_path(environment)}


def execute(command: Sequence[str], added: Mapping[str, str]) -> NoReturn:
    """Become `command`, found on PATH: its exit code, its signals and its process id are this process's own.

    Raises:
        OSError: it cannot be started; `exit_code` says what the shell should see.
    """
    environment = {**os.environ, **added}
    if shutil.which(command[0]) is None and not os.path.exists(command[0]):
        raise FileNotFoundError(f"{command[0]}: command not found")
    os.execvpe(command[0], list(command), environment)  # noqa: S606 - no shell is wanted


def exit_code(error: OSError) -> int:
    """Return what shells return for a command that could not be started."""
    return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE


def _split(pair: str) -> tuple[str, str]:
    key, equals, value = pair.partition("=")
    if not equals or not key:
        raise ConfigurationError("--set", pair, "key=value, such as sampling.base_level=2")
    return key.strip(), value
