"""Tells when ranks were not set up alike: the usual fate of environment variables on the second node.

Rank 0 puts its settings into the rendezvous store, every other rank compares its own in a thread that ends by
itself. Nothing waits for it, and nothing is changed: the log says what differs and what to do.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import Any, Final

from infoplane.agent import rendezvous
from infoplane.agent.counters import Counters
from infoplane.agent.identity import REMEDY, Identity
from infoplane.agent.settings import Settings, options

# Must be equal, or windows mix what does not belong together or never meet. No secrets among them.
SHARED: Final = (
    "transport", "kafka.bootstrap_servers", "kafka.topic_prefix", "sampling", "profile", "units", "taps", "probes",
    "tokens", "events", "config",
)  # fmt: skip
_PATIENCE_S: Final = 60.0
_POLL_S: Final = 0.1
_log = logging.getLogger("infoplane.agent")


def compare_settings(settings: Settings, found: Identity, counters: Counters) -> None:
    """Begin to compare the settings of this rank with those of rank 0; returns at once."""
    store = rendezvous.store()
    if store is None:
        return
    key = f"{rendezvous.PREFIX}/settings/{found.run}/{found.attempt}"
    mine = shared_settings(settings)
    if found.coordinates.rank == 0:
        store.set(key, json.dumps(mine))
        return
    threading.Thread(
        target=_compare, args=(store, key, mine, counters), name="infoplane-compare", daemon=True
    ).start()


def shared_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings that all ranks must have alike, by dotted key."""
    chosen = {}
    for key, _ in options():
        if key in SHARED or key.partition(".")[0] in SHARED:
            value: Any = settings
            for name in key.split("."):
                value = getattr(value, name)
            chosen[key] = value
    return chosen


def differences(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Return one phrase a setting that differs."""
    return [
        f"{key} is {mine.get(key)!r} here, {theirs.get(key)!r} on rank 0"
        for key in sorted({*mine, *theirs})
        if mine.get(key) != theirs.get(key)
    ]


def _compare(store: Any, key: str, mine: dict[str, Any], counters: Counters) -> None:
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while not store.check([key]):
            if time.monotonic() > deadline:
                counters.add("settings_unknown")
                _log.error(
                    "infoplane: rank 0 did not attach within %.0f s: without it this rank's windows stay "
                    "incomplete. %s",
                    _PATIENCE_S, REMEDY,
                )  # fmt: skip
                return
            time.sleep(_POLL_S)
        found = differences(mine, json.loads(store.get(key)))
        if found:
            counters.add("settings_differ", value=len(found))
            _log.error("infoplane: ranks are set up differently: %s. %s", "; ".join(found), REMEDY)
    except Exception as error:  # noqa: BLE001 - the store goes away with rank 0; training goes on
        _log.debug("infoplane: settings could not be compared: %r", error)
