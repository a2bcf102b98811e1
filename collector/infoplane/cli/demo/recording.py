"""Keeps all messages of a run as a log file, for `infoplane replay`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from infoplane.cli.reading import TopicReader
from infoplane.collector.settings import KafkaSection
from infoplane.wire.log import LOG_SUFFIX, LogWriter
from infoplane.wire.topics import TOPICS

_QUIET_S: Final = 1.0
_LIMIT_S: Final = 120.0


def record_run(kafka: KafkaSection, run: str, directory: Path) -> Path:
    """Write every message of `run` from every topic to one file in `directory`; return its path."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{run}{LOG_SUFFIX}"
    writer = LogWriter(path)
    reader = TopicReader(kafka, TOPICS)
    try:
        limit = time.monotonic() + _LIMIT_S
        quiet_since = time.monotonic()
        while time.monotonic() < min(limit, quiet_since + _QUIET_S):
            for read in reader.poll(200):
                quiet_since = time.monotonic()
                # Keys are `run`, `run|...` or, in `state`, `stage|run`.
                if run in read.entry.key.decode(errors="replace").split("|"):
                    writer.append(read.entry)
    finally:
        reader.close()
        writer.close()
    return path
