"""A small language model, and ways to run it under the agent and to read what it sent."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from infoplane.agent import Monitor, attach
from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb

sys.path.insert(0, str(Path(__file__).parent))

from every_step import EVERY_STEP

VOCABULARY = 61


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("INFOPLANE_")]:
        monkeypatch.delenv(name)


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.act = nn.Linear(width, 2 * width), nn.GELU()
        self.down, self.drop = nn.Linear(2 * width, width), nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.drop(self.down(self.act(self.up(self.norm(x)))))


class Model(nn.Module):
    """Returns logits, or the loss when targets are given; `reentrant` turns checkpointing on."""

    def __init__(self, width: int = 24, layers: int = 3) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(layers))
        self.final_norm = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, VOCABULARY)
        self.reentrant: bool | None = None

    def forward(self, ids: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = self.run(block, x)
        logits = self.lm_head(self.final_norm(x))
        if targets is None:
            return logits
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def run(self, block: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if self.reentrant is None:
            return block(x)
        return checkpoint(block, x, use_reentrant=self.reentrant)


class Loop:
    """A plain training loop under the agent; `records` reads back what was sent."""

    def __init__(self, model: nn.Module, **settings: Any) -> None:
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        keywords = {k: settings.pop(k) for k in ("announce", "first_step") if k in settings}
        config = EVERY_STEP | settings
        self.monitor: Monitor = attach(model, config=config, **keywords)
        self.data = torch.Generator().manual_seed(3)

    def step(self, micros: int = 1, batch: int = 4, length: int = 16) -> torch.Tensor:
        for _ in range(micros):
            ids = torch.randint(0, VOCABULARY, (batch, length + 1), generator=self.data)
            loss = self.model(ids[:, :-1], ids[:, 1:])
            loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.monitor.step()
        return ids

    def records(self, body: str = "") -> list[pb.Record]:
        """Close, and return the records with the given body."""
        self.monitor.close()
        return [r for r in self.sent() if not body or r.WhichOneof("body") == body]

    def sent(self) -> list[pb.Record]:
        """Return the records sent so far."""
        return [decode(message.value, pb.Record) for message in self.monitor.messages]

    def taps(self) -> dict[int, dict[str, pb.TapSketch]]:
        """Close, and return the own taps of every step, by step and name."""
        found: dict[int, dict[str, pb.TapSketch]] = {}
        for record in self.records("sketch"):
            own = {tap.tap: tap for tap in record.sketch.taps if not tap.duplicate}
            found.setdefault(record.step, {}).update(own)
        return found


@pytest.fixture
def make_model() -> Callable[..., Model]:
    """Return the class of the toy model, with a fixed seed."""
    torch.manual_seed(0)
    return Model


@pytest.fixture
def make_loop() -> Iterator[Callable[..., Loop]]:
    """Return the class of the training loop; closes what it made."""
    torch.manual_seed(0)
    made: list[Loop] = []

    def make(model: nn.Module | None = None, **settings: Any) -> Loop:
        made.append(Loop(Model() if model is None else model, **settings))
        return made[-1]

    yield make
    for loop in made:
        loop.monitor.close()
