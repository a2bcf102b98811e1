"""Keeps all messages of a run as a log file, for `infoplane replay`."""

from __future__ import annotations

import heapq
import time
from collections import defaultdict
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Final

from infoplane.cli.reading import TopicReader
from infoplane.collector.settings import KafkaSection
from infoplane.wire.log import LOG_SUFFIX, LogEntry, LogWriter
from infoplane.wire.topics import TOPICS

_QUIET_S: Final = 1.0
_LIMIT_S: Final = 120.0


def record_run(kafka: KafkaSection, run: str, directory: Path) -> Path:
    """Write every message of `run` from every topic to one file in `directory`; return its path.

    Entries stand in the order of time, as the live stages saw them: a replay reads topics of several partitions
    in the order of the file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{run}{LOG_SUFFIX}"
    writer = LogWriter(path)
    try:
        for _, entry in heapq.merge(*map(_timed, _read_all(kafka, run)), key=itemgetter(0)):
            writer.append(entry)
    finally:
        writer.close()
    return path


def _timed(entries: list[LogEntry]) -> Iterator[tuple[int, LogEntry]]:
    """Yield (running maximum of the timestamps, entry): a partition keeps its own order."""
    clock = 0
    for entry in entries:
        clock = max(clock, entry.timestamp_ms)
        yield clock, entry


def _read_all(kafka: KafkaSection, run: str) -> list[list[LogEntry]]:
    """Return the entries of `run`, partition by partition."""
    partitions: dict[tuple[str, int], list[LogEntry]] = defaultdict(list)
    reader = TopicReader(kafka, TOPICS)
    try:
        limit = time.monotonic() + _LIMIT_S
        quiet_since = time.monotonic()
        while time.monotonic() < min(limit, quiet_since + _QUIET_S):
            for read in reader.poll(200):
                quiet_since = time.monotonic()
                # Keys are `run`, `run|...` or, in `state`, `stage|run`.
                if run in read.entry.key.decode(errors="replace").split("|"):
                    partitions[(read.entry.topic, read.entry.partition)].append(read.entry)
    finally:
        reader.close()
    return list(partitions.values())
