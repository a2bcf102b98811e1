"""Synthetic logs that follow the schema: what several ranks would have said, without training anything.

Public, so that tests of drivers, exporters and tools need no model. Rows are Gaussian, and each tap is a noisy copy
of the one before it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoplane.collector.drivers.memos import collect_saved
from infoplane.collector.drivers.partition import Partition
from infoplane.collector.stage import Emission, Stage
from infoplane.estimators.state import LogHistogram
from infoplane.wire import encode, to_tensor
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import LogEntry
from infoplane.wire.topics import RECORDS, Names, record_key

TAPS = ("embed", "00/block", "00/act", "01/block", "01/act", "final_norm")
LAYERS = "layers/00-01"
STEP_MS = 100


def comparable_results(results: Iterable[pb.Result]) -> dict[tuple[str, ...], str]:
    """Return the last result of every series and window as text, by (window, metric, labels).

    Leaves out when and as which pane a result came, and rounds to ten digits and to 1e-12: two drivers, or a live run
    and its replay, must agree on everything else.
    """
    found = {}
    for result in results:
        one = pb.Result()
        one.CopyFrom(result)
        one.ClearField("clock_ms")
        one.ClearField("pane")
        for name in ("value", "null_mean", "null_sd", "ceiling", "band_low", "band_high"):
            if name == "value" or one.HasField(name):
                # What is near zero is a difference, whose digits depend on the number of threads.
                setattr(one, name, round(float(f"{getattr(one, name):.10g}"), 12))
        labels = [f"{label.name}={label.value}" for label in result.labels]
        found[(str(result.window), result.metric, *labels)] = repr(one)
    return found


def run_with_crashes(
    entries: Sequence[LogEntry],
    stage: Stage[Any],
    generator: random.Random,
    *,
    lives: int,
    saves: float,
    commits: float,
) -> list[Emission]:
    """Return everything that a stage publishes over several lives, the last of which reads to the end of the log.

    Every life but the last ends at a random message, and the next begins at the committed offset with the saved state,
    as the embedded driver does.

    Args:
        entries: one partition, offsets 0, 1, 2 ...
        stage: what is killed.
        generator: decides when.
        lives: number of lives that are cut short.
        saves: probability that the state is saved after a message.
        commits: probability that the offset is committed after that, and the process not killed in between.
    """
    states: dict[tuple[str, str], pb.StageState] = {}
    emissions: list[Emission] = []
    committed = 0
    for _ in range(lives):
        partition = Partition(stage, 0, collect_saved(states.values()))
        stop = generator.randrange(committed, len(entries) + 1)
        for entry in entries[committed:stop]:
            emissions += partition.feed(entry)
            if generator.random() < saves:
                for saved in partition.save():
                    state = saved.message
                    assert isinstance(state, pb.StageState)
                    states[state.key, state.part] = state
                if generator.random() < commits:
                    committed = max(committed, partition.needed_offset(entry.offset + 1))
    partition = Partition(stage, 0, collect_saved(states.values()))
    for entry in entries[committed:]:
        emissions += partition.feed(entry)
    emissions += partition.finish()
    return emissions


@dataclass(frozen=True)
class SyntheticRun:
    """A run that never happened.

    Attributes:
        ranks: data-parallel ranks.
        steps: steps 0 .. steps - 1, of 100 ms each.
        rows: rows a rank sees in a step; all of them are sampled.
        dim: width of the projection.
    """

    name: str = "synthetic"
    attempt: int = 1_000
    ranks: int = 2
    steps: int = 48
    base_level: int = 0
    width: int = 8
    rows: int = 32
    dim: int = 8
    seed: int = 0
    units: Sequence[str] = (LAYERS, "tokens", "scalars", "agent")
    start_ms: int = 1_700_000_000_000
    names: Names = field(default_factory=Names)

    def log(self) -> list[LogEntry]:
        """Return all records, in the order in which one partition would hold them."""
        entries = []
        for offset, (timestamp_ms, record) in enumerate(self.records()):
            entries.append(
                LogEntry(
                    self.names.of(RECORDS),
                    0,
                    offset,
                    timestamp_ms,
                    record_key(record.run, record.unit),
                    encode(record),
                )
            )
        return entries

    def records(self) -> Iterator[tuple[int, pb.Record]]:
        """Yield (timestamp, record): every sampled step of every rank, and a bye."""
        sequence = 0
        for step in range(self.steps):
            if step % (1 << self.base_level):
                continue
            now = self.start_ms + step * STEP_MS
            for rank in range(self.ranks):
                for unit in self.units:
                    yield now + rank, self._record(unit, rank, step, sequence)
                sequence += 1
        for rank in range(self.ranks):
            for unit in self.units:
                record = self._head(unit, rank, self.steps, sequence)
                record.bye.CopyFrom(pb.Bye(last_step=self.steps - 1, any_finished=True))
                yield self.start_ms + self.steps * STEP_MS + rank, record

    def _head(self, unit: str, rank: int, step: int, sequence: int) -> pb.Record:
        return pb.Record(
            run=self.name,
            attempt=self.attempt,
            unit=unit,
            seq=sequence,
            step=step,
            coordinates=pb.Coordinates(
                rank=rank, world=self.ranks, dp=rank, dp_size=self.ranks, tp_size=1, pp_size=1
            ),
            sender=pb.Sender(index=rank, count=self.ranks, level=self.base_level),
            rule=pb.WindowRule(base_level=self.base_level, width=self.width),
            units=self.units,
            time_ms=self.start_ms + step * STEP_MS,
        )

    def _record(self, unit: str, rank: int, step: int, sequence: int) -> pb.Record:
        record = self._head(unit, rank, step, sequence)
        generator = np.random.default_rng([self.seed, step, rank])
        keys = np.sort(generator.integers(1, 1 << 63, self.rows, dtype=np.uint64))
        if unit == LAYERS:
            record.sketch.CopyFrom(self._sketch(keys, generator))
        elif unit == "tokens":
            record.tokens.CopyFrom(self._tokens(keys, generator))
        elif unit == "scalars":
            loss = 3.0 * 0.99**step + 0.01 * generator.normal()
            record.scalars.values.add(name="loss", step=step, value=loss)
            record.scalars.values.add(name="learning_rate", step=step, value=1e-3, announced=True)
            record.scalars.values.add(name="learning_rate", step=step, value=2e-2)
        else:
            for name, value in (
                ("records_sent", 4.0),
                ("step_seconds", 0.1),
                ("hook_seconds", 1e-4),
            ):
                record.agent.counters.add(name=name, value=value * (step + 1))
            record.agent.counters.add(name="publisher_cpu_seconds", value=1e-4 * (step + 1))
            record.agent.counters.add(name="records_dropped", reason="queue_full", value=0.0)
        return record

    def _sampling(self) -> pb.Sampling:
        return pb.Sampling(
            projection_version=1,
            projection_dim=self.dim,
            key_version=1,
            rows_per_step=self.rows,
            rows_per_window=1024,
        )

    def _sketch(self, keys: NDArray[np.uint64], generator: np.random.Generator) -> pb.Sketch:
        sketch = pb.Sketch(
            sampling=self._sampling(), rows_total=self.rows, row_keys=to_tensor(keys)
        )
        rows = generator.normal(size=(self.rows, self.dim))
        for tap in TAPS:
            if tap.endswith("/act"):
                sketch.taps.append(_activation(tap, np.maximum(rows, 0.0)))
                continue
            sketch.taps.append(_tap(tap, rows))
            rows = rows + 0.5 * generator.normal(size=rows.shape)
        return sketch

    def _tokens(self, keys: NDArray[np.uint64], generator: np.random.Generator) -> pb.Tokens:
        n = self.rows
        columns: dict[str, NDArray[np.generic]] = {
            "entropy": generator.uniform(1.0, 3.0, n).astype(np.float32),
            "log_prob": -generator.uniform(1.0, 3.0, n).astype(np.float32),
            "position": np.arange(n, dtype=np.int32),
            "target": generator.integers(0, 64, n).astype(np.int32),
            "valid": np.ones(n, np.uint8),
        }
        return pb.Tokens(
            sampling=self._sampling(),
            rows_total=n,
            row_keys=to_tensor(keys),
            columns=[pb.Column(name=k, values=to_tensor(v)) for k, v in columns.items()],
            token_mode="buckets",  # noqa: S106 - the privacy mode, no secret
            vocabulary=256,
        )


def _tap(name: str, rows: NDArray[np.float64]) -> pb.TapSketch:
    n, dim = rows.shape
    square = (rows**2).sum(axis=1)
    scale = np.abs(rows).max(axis=1).astype(np.float32)
    return pb.TapSketch(
        tap=name,
        width=dim,
        moments=pb.Moments(
            n=n,
            total=to_tensor(rows.sum(axis=0).astype(np.float32)),
            outer=to_tensor((rows.T @ rows)[np.triu_indices(dim)].astype(np.float32)),
        ),
        norms=pb.Norms(
            n=n,
            sum_square=square.sum(),
            sum_fourth=(square**2).sum(),
            maximum=square.max() ** 0.5,
        ),
        norm_histogram=_histogram(np.sqrt(square), is_signed=False),
        rows=pb.Rows(
            scaled=to_tensor((rows / scale[:, None]).astype(np.float16)), scale=to_tensor(scale)
        ),
    )


def _activation(name: str, values: NDArray[np.float64]) -> pb.TapSketch:
    return pb.TapSketch(
        tap=name, width=values.shape[1], elements=_histogram(values, is_signed=True)
    )


def _histogram(values: NDArray[np.float64], *, is_signed: bool) -> pb.Histogram:
    counts = LogHistogram.of_values(values, signed=is_signed).counts.astype(np.int32)
    return pb.Histogram(is_signed=is_signed, counts=to_tensor(counts))
