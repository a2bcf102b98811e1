"""DeepSpeed's own scalars: a tee in the place of `engine.monitor` passes them on to the agent.

DeepSpeed hands events (name, value, samples) to its monitor where that is enabled, on global rank 0 only. The tee says
that it is, so the events come without any of DeepSpeed's backends being on: `Train/Samples/lr`, under fp16
`Train/Samples/loss_scale`, and the timers if the user has `wall_clock_breakdown` on; the tee never switches that on, as
those timers wait for the device. Backends that are on get their events as before.

A pipeline engine reads the loss back from the device for every event, so there the tee only says what the user's own
monitor says. Checked with DeepSpeed 0.19.8.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from infoplane.agent.frameworks.deepspeed_layout import is_pipeline

Log = Callable[[Mapping[str, Any]], None]
_log = logging.getLogger("infoplane.agent")


class MonitorTee:
    """Stands in for a DeepSpeed monitor: everything goes to it, events also to `log`.

    Args:
        monitor: the engine's own.
        log: takes scalars by name.
        asks: whether to say `enabled` where the monitor is not.
    """

    def __init__(self, monitor: Any, log: Log, *, asks: bool) -> None:
        self._monitor = monitor
        self._log = log
        self._asks = asks
        self._has_failed = False

    @property
    def enabled(self) -> bool:
        """Whether DeepSpeed is to make events."""
        return self._asks or bool(self._monitor.enabled)

    def write_events(self, event_list: Iterable[tuple[str, Any, int]]) -> None:
        """Pass events on; of the agent's own errors none comes out. About 2 us per event."""
        events = list(event_list)
        if self._monitor.enabled:
            self._monitor.write_events(events)
        try:
            self._log({event[0]: event[1] for event in events})
        except Exception as error:  # noqa: BLE001 - training goes on
            if not self._has_failed:
                self._has_failed = True
                _log.warning("infoplane: DeepSpeed's scalars cannot be read: %r", error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._monitor, name)


def tee_events(engine: Any, log: Log) -> Callable[[], None]:
    """Give `log` the engine's events from now on, and return what ends that.

    The end leaves alone a monitor that somebody else has put in meanwhile, but then the tee inside it is silent.
    """
    monitor = getattr(engine, "monitor", None)
    if monitor is None or not hasattr(monitor, "enabled"):
        return lambda: None
    tee = MonitorTee(monitor, log, asks=not is_pipeline(engine))
    engine.monitor = tee

    def end() -> None:
        tee._asks, tee._log = False, _ignore
        if engine.monitor is tee:
            engine.monitor = monitor

    return end


def _ignore(_: Mapping[str, Any]) -> None:
    pass
