"""Runs stages over a recorded log, in one process and without a broker.

The output of one stage is the input of the next, through topics in memory that keep Kafka's order within a key. The
end of the log fires all timers.
"""

from __future__ import annotations

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
    """Yield what one stage makes of its topic, partition by partition as the entries say, to the end of all timers."""
    partitions: dict[int, Partition[Any]] = {}
    for entry in entries:
        partition = partitions.get(entry.partition)
        if partition is None:
            partition = partitions[entry.partition] = Partition(stage, entry.partition)
        yield from partition.feed(entry)
    for partition in partitions.values():
        yield from partition.finish()


def _append(log: dict[str, list[LogEntry]], emission: Emission, names: Names) -> None:
    topic: Topic = emission.topic
    entries = log[names.of(topic)]
    entries.append(entry_of(emission, names, len(entries)))
