"""Runs stages over a recorded log, in one process and without a broker.

The output of one stage is the input of the next, through topics in memory that keep Kafka's order within a key. The
end of the log fires all timers.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from infoplane.collector.drivers.partition import Partition
from infoplane.collector.stage import Emission, Stage
from infoplane.wire import encode
from infoplane.wire.log import LogEntry
from infoplane.wire.topics import Names


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
    made: dict[str, list[list[LogEntry]]] = defaultdict(list)  # topic -> what each stage wrote
    for entry in entries:
        log[entry.topic].append(entry)
    for stage in stages:
        topic = chosen.of(stage.reads)
        written: dict[str, list[LogEntry]] = defaultdict(list)
        for emission in run_stage([*log[topic], *side_by_side(made[topic])], stage):
            yield emission
            own = written[chosen.of(emission.topic)]
            own.append(entry_of(emission, chosen, len(own)))
        for name, own in written.items():
            made[name].append(own)


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


def side_by_side(writers: Sequence[Sequence[LogEntry]]) -> list[LogEntry]:
    """Merge what several stages wrote to one topic by time: a log that one shared partition could have had."""
    timed = [_timed(entries) for entries in writers]
    merged = heapq.merge(*timed, key=lambda pair: pair[0])
    return [dataclasses.replace(entry, offset=place) for place, (_, entry) in enumerate(merged)]


def _timed(entries: Iterable[LogEntry]) -> Iterator[tuple[int, LogEntry]]:
    clock = 0
    for entry in entries:
        clock = max(clock, entry.timestamp_ms)
        yield clock, entry
