"""`attach_to` around a real Accelerator, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from every_step import EVERY_STEP
from torch import nn

from infoplane.agent import Monitor
from infoplane.agent.frameworks.accelerate import attach_to
from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb

VOCABULARY = 61
MakeModel = Callable[..., nn.Module]

pytestmark = [
    pytest.mark.skipif(find_spec("accelerate") is None, reason="needs accelerate"),
    pytest.mark.filterwarnings("ignore"),  # of the libraries, which are not ours to mend
]


@pytest.fixture(autouse=True)
def _no_state_from_before() -> Iterator[None]:
    yield
    from accelerate.state import AcceleratorState, GradientState

    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


class Loop:
    """A training loop around an Accelerator; `monitor` is None without the agent."""

    def __init__(self, model: nn.Module, *, is_watched: bool = True, **keywords: Any) -> None:
        from accelerate import Accelerator

        attach = {k: keywords.pop(k) for k in ("first_step",) if k in keywords}
        self.accelerator = Accelerator(cpu=True, **keywords)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.monitor: Monitor | None = None
        if is_watched:
            self.monitor = attach_to(
                self.accelerator, self.model, self.optimizer, config=EVERY_STEP, **attach
            )
        self.data = torch.Generator().manual_seed(3)

    def micro_batch(self, batch: int = 2) -> float:
        ids = torch.randint(VOCABULARY, (batch, 17), generator=self.data)
        with self.accelerator.accumulate(self.model):
            loss = self.model(ids[:, :-1], ids[:, 1:])
            self.accelerator.backward(loss)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return float(loss)

    def sketched(self) -> list[int]:
        """Close, and return the steps that were sketched."""
        assert self.monitor is not None
        self.monitor.close()
        found = [decode(message.value, pb.Record) for message in self.monitor.messages]
        assert found[-1].WhichOneof("body") == "bye"
        return sorted({r.step for r in found if r.WhichOneof("body") == "sketch"})


def test_every_step_is_sketched_and_training_is_the_same_bit_by_bit(make_model: MakeModel) -> None:
    losses = []
    for is_watched in (True, False):
        torch.manual_seed(0)
        loop = Loop(make_model(), is_watched=is_watched)
        losses.append([loop.micro_batch() for _ in range(6)])
        if is_watched:
            assert loop.sketched() == list(range(6))
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 6


def test_accumulation_counts_optimizer_steps(make_model: MakeModel) -> None:
    loop = Loop(make_model(), gradient_accumulation_steps=3)
    for _ in range(9):
        loop.micro_batch()
    assert loop.sketched() == [0, 1, 2]


def test_evaluation_in_between_is_not_sampled(make_model: MakeModel) -> None:
    loop = Loop(make_model())
    for _ in range(3):
        loop.model.eval()
        loop.model(torch.zeros(1, 16, dtype=torch.int64))
        loop.model.train()
        loop.micro_batch()
    assert loop.sketched() == [0, 1, 2]


def test_a_resumed_loop_says_where_it_begins(make_model: MakeModel) -> None:
    loop = Loop(make_model(), first_step=40)
    loop.micro_batch()
    loop.micro_batch()
    assert loop.sketched() == [40, 41]


def test_an_update_that_the_scaler_skips_is_a_step(make_model: MakeModel) -> None:
    loop = Loop(make_model())
    # What Accelerator(mixed_precision="fp16") sets up on a device.
    loop.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    from accelerate.optimizer import AcceleratedOptimizer

    assert loop.monitor is not None
    loop.monitor.close()
    model = loop.accelerator.unwrap_model(loop.model)
    inner = torch.optim.SGD(model.parameters(), lr=0.01)
    loop.optimizer = AcceleratedOptimizer(inner, scaler=loop.accelerator.scaler)
    loop.monitor = attach_to(loop.accelerator, loop.model, loop.optimizer, config=EVERY_STEP)
    skipped = []
    for step in range(4):
        ids = torch.zeros(1, 16, dtype=torch.int64)
        loss = loop.model(ids, ids) * (float("inf") if step == 1 else 1.0)
        loop.accelerator.backward(loss)
        loop.optimizer.step()
        loop.optimizer.zero_grad()
        skipped.append(loop.optimizer.step_was_skipped)
    assert skipped == [False, True, False, False]
    assert loop.sketched() == [0, 1, 2, 3]


def test_attaching_twice_counts_once(make_model: MakeModel) -> None:
    loop = Loop(make_model())
    again = attach_to(loop.accelerator, loop.model, loop.optimizer)
    assert again is loop.monitor
    for _ in range(3):
        loop.micro_batch()
    assert loop.sketched() == [0, 1, 2]
