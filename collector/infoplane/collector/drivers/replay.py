"""Runs stages over a recorded log, in one process and without a broker.

The output of one stage is the input of the next, through topics in memory that keep Kafka's order within a key. The
end of the log fires all timers.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from infoplane.collector.drivers.partition import Partition
from infoplane.collector.stage import Emission, Stage
from infoplane.wire import encode
from infoplane.wire.log import LogEntry
from infoplane.wire.topics import Names, Topic


def entry_of(emission: Emission, names: Names, offset: int) -> LogEntry:
    """Return an emission as the log entry that it would become."""
    return LogEntry(
        topic=names.of(emission.topic),
        partition=0,
        offset=offset,
        timestamp_ms=int(getattr(emission.message, "clock_ms", 0)),
        key=emission.key,
        value=encode(emission.message),
    )


def replay(
    entries: Iterable[LogEntry], stages: Sequence[Stage[Any]], names: Names | None = None
) -> Iterator[Emission]:
    """Yield everything that `stages`, in the order of the data's way, make of `entries`.

    Entries of topics that no stage reads are passed over. Stages are run one after another over whole topics: the same
    as live, since a stage only sees its own topic.
    """
    chosen = names or Names()
    log: dict[str, list[LogEntry]] = defaultdict(list)
    for entry in entries:
        log[entry.topic].append(entry)
    for stage in stages:
        for emission in run_stage(log[chosen.of(stage.reads)], stage):
            yield emission
            _append(log, emission, chosen)


def run_stage(entries: Iterable[LogEntry], stage: Stage[Any]) -> Iterator[Emission]:
    """Yield what one stage makes of its topic, to the end of all timers.

    Partitions are read side by side in time, as live readers do: read one after the other, the first would run its
    clock, and with it the deadlines of whoever reads its output, far ahead of the others.
    """
    partitions: dict[int, Partition[Any]] = {}
    for entry in in_time_order(entries):
        partition = partitions.get(entry.partition)
        if partition is None:
            partition = partitions[entry.partition] = Partition(stage, entry.partition)
        yield from partition.feed(entry)
    while dues := [due for one in partitions.values() if (due := one.due_ms()) is not None]:
        for partition in partitions.values():
            yield from partition.idle(min(dues))


def in_time_order(entries: Iterable[LogEntry]) -> Iterator[LogEntry]:
    """Merge partitions by time; the order within a partition stays, whatever its timestamps say."""
    partitions: dict[int, list[tuple[int, int, LogEntry]]] = defaultdict(list)
    for entry in entries:
        queue = partitions[entry.partition]
        clock = max(entry.timestamp_ms, queue[-1][0]) if queue else entry.timestamp_ms
        queue.append((clock, len(queue), entry))
    merged = heapq.merge(*partitions.values(), key=lambda timed: timed[:2])
    return (entry for _, _, entry in merged)


def _append(log: dict[str, list[LogEntry]], emission: Emission, names: Names) -> None:
    topic: Topic = emission.topic
    entries = log[names.of(topic)]
    entries.append(entry_of(emission, names, len(entries)))
