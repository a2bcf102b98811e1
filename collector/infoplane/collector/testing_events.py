"""A made-up stream of preferences for tests and benchmarks: events as several ranks would publish them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoplane.wire import encode, to_tensor
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.log import LogEntry
from infoplane.wire.topics import EVENTS, Names, event_key


@dataclass(frozen=True)
class SyntheticEvents:
    """Comparisons of `responses` responses with normal features and a linear true reward.

    Attributes:
        steps: training steps; every rank observes `each` comparisons a step.
        has_steps: whether batches carry their step.
    """

    run: str = "synthetic"
    attempt: int = 1_000
    stream: str = "preferences"
    ranks: int = 3
    steps: int = 40
    each: int = 4
    responses: int = 50
    dim: int = 8
    width: int = 8
    seed: int = 0
    has_steps: bool = True
    start_ms: int = 1_700_000_000_000
    step_ms: int = 100
    names: Names = field(default_factory=Names)

    def log(self) -> list[LogEntry]:
        """Return the topic `events` as one partition."""
        entries = []
        for offset, batch in enumerate(self.batches()):
            key = event_key(self.run, self.stream)
            topic = self.names.of(EVENTS)
            entries.append(LogEntry(topic, 0, offset, batch.time_ms, key, encode(batch)))
        return entries

    def batches(self) -> Iterator[pb.EventBatch]:
        """Yield one batch a step and rank."""
        truth = np.random.default_rng(self.seed).normal(size=(self.responses, self.dim))
        for step in range(self.steps):
            for rank in range(self.ranks):
                yield self._batch(step, rank, truth)

    def _batch(self, step: int, rank: int, features: NDArray[np.float64]) -> pb.EventBatch:
        random = np.random.default_rng((self.seed, step, rank))
        pairs = np.array(
            [random.choice(self.responses, 2, replace=False) for _ in range(self.each)]
        )
        reward = features[:, 0]
        wins = random.random(self.each) < 1 / (1 + np.exp(-(reward[pairs] @ [1.0, -1.0])))
        chosen = np.where(wins, pairs[:, 0], pairs[:, 1])
        rejected = np.where(wins, pairs[:, 1], pairs[:, 0])
        columns: dict[str, NDArray[Any]] = {
            "chosen": chosen.astype(np.uint64) + np.uint64(1),
            "rejected": rejected.astype(np.uint64) + np.uint64(1),
            "prompt": np.ones(self.each, np.uint64),
            "rater": np.zeros(self.each, np.uint64),
            "weight": np.ones(self.each),
            "reward_chosen": reward[chosen],
            "reward_rejected": reward[rejected],
            "features_chosen": features[chosen].astype(np.float32),
            "features_rejected": features[rejected].astype(np.float32),
        }
        # The same pair with the same winner is the same event, as with the agent's content hashes.
        ids = (chosen * self.responses + rejected).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        batch = pb.EventBatch(
            run=self.run,
            attempt=self.attempt,
            stream=self.stream,
            rank=rank,
            seq=step,
            rule=pb.WindowRule(base_level=0, width=self.width),
            time_ms=self.start_ms + step * self.step_ms + rank,
            offered=self.each,
            table=pb.EventTable(
                kind="preferences",
                ids=to_tensor(ids),
                columns=[pb.Column(name=n, values=to_tensor(v)) for n, v in columns.items()],
            ),
        )
        if self.has_steps:
            batch.step = step
        return batch
