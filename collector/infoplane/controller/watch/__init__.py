"""WATCH: turns estimates into verdicts."""

from infoplane.controller.watch.machine import WatchMachine, WatchSettings, watch_stage

__all__ = ["WatchMachine", "WatchSettings", "watch_stage"]
