"""The training loop of the demo: DeepSpeed ZeRO-2 on CPU ranks, watched by the agent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.distributed as dist
from torch import nn

from infoplane.cli.demo.batches import Shard
from infoplane.cli.demo.faults import Fault
from infoplane.cli.demo.model import ByteTransformer
from infoplane.cli.demo.plan import MIN_STEPS, WINDOW_STEPS, Plan
from infoplane.cli.demo.status import StatusWriter

_TIMED_STEPS: Final = 4
_STEP_OVER_MODEL: Final = 1.3  # a step of the whole job over forward and backward alone


@dataclass(frozen=True, slots=True)
class Shape:
    """Size of the model and of a batch on one rank."""

    width: int = 128
    blocks: int = 4
    heads: int = 4
    length: int = 128
    batch: int = 8

    def model(self, seed: int) -> ByteTransformer:
        """Return the model as every rank starts it."""
        torch.manual_seed(seed)
        return ByteTransformer(self.width, self.blocks, self.heads, self.length)


def initialise_engine(model: nn.Module, batch: int, rate: float = 1e-3) -> Any:
    """Return the DeepSpeed engine around `model`; the process group must exist."""
    import deepspeed

    # A torch optimizer needs no C++ op, and so no compiler, on the first run.
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.01)
    config = {
        "train_micro_batch_size_per_gpu": batch,
        "gradient_accumulation_steps": 1,
        "zero_optimization": {"stage": 2},
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": 1.0,
        # Every step is sampled, whatever it costs: the demo is about seeing much in few minutes.
        "infoplane": {
            "sampling": {"base_level": 0},
            "governor": {"enabled": False},
            "probes": {"joint": "on", "runs": "on", "activation": "on"},
        },
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    return engine


def train(engine: Any, model: ByteTransformer, plan: Plan, shard: Shard, out: StatusWriter) -> None:
    """Train for `plan.steps` steps with the agent attached; ends after its last record was sent."""
    from infoplane.agent import attach

    fault = Fault(plan)
    with attach(engine, announce=plan.announce) as monitor:
        for step in range(plan.steps):
            started = time.perf_counter()
            damaged = fault.damages_data(step, shard.rank, shard.world)
            tokens, targets = shard.at(step, random_bytes=damaged)
            rate = plan.learning_rate(step) * fault.learning_rate_factor(step)
            _set_learning_rate(engine, rate)
            loss = engine(tokens, targets)
            value = float(loss.detach())
            monitor.log(loss=value)
            engine.backward(loss)
            with rate_in_step(engine, lambda rate: monitor.log(learning_rate=rate)):
                engine.step()
            fault.damage_weights(step, model)
            out.write(
                step=step,
                loss=round(value, 4),
                seconds=round(time.perf_counter() - started, 4),
                fault_injected=fault.is_active(step),
            )


def _set_learning_rate(engine: Any, rate: float) -> None:
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


@contextmanager
def rate_in_step(engine: Any, tell: Callable[[float], None]) -> Iterator[None]:
    """Call `tell` with the learning rate that the optimizer's step uses: a command may have changed it for the step.

    The hook is new for every step, so that it runs after those that change the rate.
    """
    optimizer = engine.optimizer
    while not isinstance(optimizer, torch.optim.Optimizer):
        optimizer = optimizer.optimizer

    def read(stepping: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        tell(float(stepping.param_groups[0]["lr"]))

    handle = optimizer.register_step_pre_hook(read)
    try:
        yield
    finally:
        handle.remove()


def steps_for(duration_s: float, model: ByteTransformer, shard: Shard) -> int:
    """Return how many steps fit in `duration_s` seconds, whole windows, equal on all ranks."""
    best = min(_timed_pass(model, shard, step) for step in range(_TIMED_STEPS))
    steps = int(duration_s / (best * _STEP_OVER_MODEL))
    agreed = torch.tensor([max(MIN_STEPS, steps // WINDOW_STEPS * WINDOW_STEPS)])
    dist.broadcast(agreed, src=0)
    return int(agreed)


def _timed_pass(model: ByteTransformer, shard: Shard, step: int) -> float:
    started = time.perf_counter()
    model(*shard.at(step)).backward()
    model.zero_grad(set_to_none=True)
    return time.perf_counter() - started
