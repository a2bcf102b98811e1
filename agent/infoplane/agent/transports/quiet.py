"""Keeps kafka-python's log out of the training log.

During an outage it writes several lines a second, for hours. The agent says once what happened and
counts the rest. Only records of threads that the agent owns are dropped: a training job that uses
kafka-python itself keeps its own lines.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

CLIENT_PREFIX: Final = "infoplane-"
_LIBRARY: Final = "kafka"


class _NotOurs(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not threading.current_thread().name.startswith(CLIENT_PREFIX)


_filter: Final = _NotOurs()


def silence_library() -> None:
    """Drop what kafka-python logs from our threads; safe to call again (modules load lazily)."""
    for name in list(logging.root.manager.loggerDict):
        if name == _LIBRARY or name.startswith(f"{_LIBRARY}."):
            logging.getLogger(name).addFilter(_filter)
