"""The stages as a bounded Beam pipeline over a recorded log.

Every key's messages are grouped, sorted by partition and offset and fed to the same `Partition` that the other
drivers run, with the log's own clock; the end of a group fires all timers. No Beam windows, timers or state: a
bounded log needs none, and what a runner does with timers must not decide what a window holds.

Needs the `beam` extra. Proven on FnApiRunner; name the runner object, never the string "DirectRunner", which may
look for another runner over the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam

from infoplane.collector.drivers.partition import Partition
from infoplane.collector.drivers.replay import entry_of
from infoplane.collector.stage import Stage
from infoplane.wire.log import LogEntry, read_log
from infoplane.wire.topics import Names

StageFactory = Callable[[], Stage[Any]]


class RunStage(beam.DoFn):
    """One key's messages through one stage.

    Takes a factory, since a stage holds functions that do not travel between workers.
    """

    def __init__(self, factory: StageFactory, prefix: str) -> None:
        super().__init__()
        self._factory = factory
        self._names = Names(prefix)

    def process(self, grouped: tuple[bytes, Iterable[LogEntry]]) -> Iterator[LogEntry]:
        """Yield what the stage makes of one key's messages."""
        partition = Partition(self._factory(), 0)
        ordered = sorted(grouped[1], key=lambda entry: (entry.partition, entry.offset))
        count = 0
        for entry in ordered:
            for emission in partition.feed(entry):
                yield entry_of(emission, self._names, count)
                count += 1
        for emission in partition.finish():
            yield entry_of(emission, self._names, count)
            count += 1


def replay_log(
    pipeline: beam.Pipeline,
    paths: Sequence[Path],
    stages: Sequence[StageFactory],
    names: Names | None = None,
) -> Any:
    """Return all outputs of `stages` over the log files `paths`, a PCollection of LogEntry.

    Outputs that become another stage's input are ordered by clock, then by the count of whoever wrote them: an order
    that one partition, shared by all writers, could have had.
    """
    chosen = names or Names()
    log = (
        pipeline
        | "paths" >> beam.Create([str(path) for path in paths])
        | "read" >> beam.FlatMap(lambda path: read_log(Path(path)))
    )
    sources, outputs = [log], []
    for factory in stages:
        stage = factory()
        topic = chosen.of(stage.reads)
        inputs = [
            source
            | f"{stage.name}: its topic {place}"
            >> beam.Filter(lambda entry, topic=topic: entry.topic == topic)
            for place, source in enumerate(sources)
        ]
        made = (
            inputs
            | f"{stage.name}: all inputs" >> beam.Flatten()
            | f"{stage.name}: by key" >> beam.Map(lambda entry: (entry.key, entry))
            | f"{stage.name}: together" >> beam.GroupByKey()
            | f"{stage.name}: run" >> beam.ParDo(RunStage(factory, chosen.prefix))
        )
        outputs.append(made)
        sources.append(made | f"{stage.name}: order" >> beam.Map(_ordered_by_clock))
    return outputs | "all outputs" >> beam.Flatten()


def _ordered_by_clock(entry: LogEntry) -> LogEntry:
    """Give an output the offset of its clock: sorting by it restores one partition's order.

    Outputs of equal clock keep the order of their writer, since the sort is stable within a group.
    """
    return LogEntry(
        entry.topic,
        entry.partition,
        (entry.timestamp_ms << 20) + min(entry.offset, (1 << 20) - 1),
        entry.timestamp_ms,
        entry.key,
        entry.value,
    )
