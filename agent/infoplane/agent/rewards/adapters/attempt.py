"""The guard around every adapter: what a library has renamed must not end its training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, ParamSpec

_Args = ParamSpec("_Args")
_log: Final = logging.getLogger("infoplane.agent")
_warned: Final[set[str]] = set()


def attempt(
    where: str, see: Callable[_Args, None], *args: _Args.args, **kwargs: _Args.kwargs
) -> None:
    """Call `see`; what it raises is logged once for each `where`, by type only: a text could quote a prompt."""
    try:
        see(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 - training goes on
        if where not in _warned:
            _warned.add(where)
            _log.warning("infoplane: %s is not observed: %s", where, type(error).__name__)
