"""A reward log whose parcels are encoded at once, and readers of what it sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from infoplane.agent.counters import Counters
from infoplane.agent.identity import Coordinates, Identity
from infoplane.agent.outbox import Parcel
from infoplane.agent.records import Envelope
from infoplane.agent.rewards import PREFERENCES, ROLLOUTS, RewardLog
from infoplane.agent.sources import load
from infoplane.agent.transports import Outgoing
from infoplane.wire import decode, from_tensor
from infoplane.wire import infoplane_pb2 as pb


class Table:
    """One decoded message."""

    def __init__(self, message: Outgoing) -> None:
        self.message = message
        self.batch = decode(message.value, pb.EventBatch)
        self.kind = self.batch.table.kind
        self.ids = from_tensor(self.batch.table.ids)
        self.columns = {c.name: from_tensor(c.values) for c in self.batch.table.columns}


class Bench:
    """One rank's reward log without a publisher; `now` is the clock of its budget."""

    def __init__(self, rank: int = 0, attempt: int = 1, arrivals: Any = None, **settings: Any):
        self.now = 0.0
        self.counters = Counters()
        self.messages: list[Outgoing] = []
        identity = Identity("run", attempt, Coordinates(rank=rank, world=4, dp=rank, dp_size=4))
        self.settings = load({"transport": "memory", **settings}, {}, {})
        keywords = {"arrivals": arrivals} if arrivals else {}
        self.log = RewardLog(
            Envelope(identity, self.settings, 16, ()),
            self.counters,
            self.offer,
            lambda: 7,
            clock=lambda: self.now,
            **keywords,
        )

    def offer(self, parcel: Parcel) -> bool:
        self.messages += parcel.encode()
        parcel.release()
        return True

    def prefer(self, prompts: Any, chosen: Any, rejected: Any, **more: Any) -> None:
        contents = {"prompt": prompts, "chosen": chosen, "rejected": rejected}
        self.observe(PREFERENCES, {**contents, "rater": more.pop("rater", None)}, **more)

    def roll(self, prompts: Any, responses: Any, **more: Any) -> None:
        self.observe(ROLLOUTS, {"prompt": prompts, "response": responses}, **more)

    def observe(self, kind: Any, contents: Any, **more: Any) -> None:
        features = {n: more.pop(n) for n in list(more) if n.startswith("features")}
        stream, step = more.pop("stream", "s"), more.pop("step", None)
        given = {"contents": contents, "features": features, "mask": more.pop("mask", None)}
        before = torch.get_rng_state(), np.random.get_state()[1].copy()
        self.log.observe(kind, stream, step, numbers=more, **given)
        # Nothing may draw from the generators of the training.
        assert torch.equal(before[0], torch.get_rng_state())
        assert (before[1] == np.random.get_state()[1]).all()

    @property
    def tables(self) -> list[Table]:
        return [Table(message) for message in self.messages]

    def ids(self) -> list[int]:
        return [int(i) for table in self.tables for i in table.ids]

    def dropped(self) -> dict[str, float]:
        found = self.counters.snapshot()
        return {r: n for (name, r), n in found.items() if name == "events_dropped" and n}


@pytest.fixture
def make_bench() -> Callable[..., Bench]:
    """Return the class of the rig."""
    return Bench


@pytest.fixture
def read() -> Callable[[Outgoing], Table]:
    """Return what decodes one message."""
    return Table
