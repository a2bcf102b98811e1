"""The rendezvous store of torch.distributed, through which ranks agree without a collective."""

from __future__ import annotations

import logging
import os
from typing import Any, Final

import torch.distributed as dist

PREFIX: Final = "infoplane"  # of every key that we put into it
_log = logging.getLogger("infoplane.agent")


def store() -> Any:
    """Return the store; None without one, or without anybody to agree with."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return None
    try:
        return dist.distributed_c10d._get_default_store()
    except (AttributeError, RuntimeError, ValueError) as error:
        _log.error("infoplane: no rendezvous store, ranks cannot agree on the attempt: %r", error)
        return None


def restart() -> str:
    """Return which restart of an elastic job this is; the store outlives restarts."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")


def agree(key: str, proposal: str) -> str:
    """Return the proposal of whoever came first to the store; one's own without a store."""
    place = store()
    if place is None:
        return proposal
    # An empty expected value means: set it if nobody has.
    return bytes(place.compare_set(f"{PREFIX}/{key}", "", proposal)).decode()
