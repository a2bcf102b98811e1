"""One of two ranks that train a tiny model under DeepSpeed ZeRO 2 and are commanded; `test_control.py` judges.

Run under torchrun: `control_worker.py FOLDER`, where FOLDER holds the keys. Every rank writes
FOLDER/result-RANK.json: by scenario what it trained, logged and sent.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import deepspeed
import deepspeed.ops
import torch
from torch import nn

from infoplane.agent import Monitor, attach
from infoplane.agent.control import MemorySource, agreement
from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.commands import nonce_of, signer

RANK = int(os.environ["RANK"])
STEPS = 90
OTHER = 1
WAIT_S = 1.0
agreement.MARGIN_S = 0.15


class Recording(torch.optim.AdamW):
    """Notes the rates that its step works with: independent of every hook."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.inside: list[float] = []

    def step(self, closure: Any = None) -> Any:
        self.inside.append(float(self.param_groups[0]["lr"]))
        return super().step(closure)


class Log(logging.Handler):
    """Keeps what the agent says."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            self.lines.append(f"{record.levelname} {record.getMessage()}")


def make_engine() -> tuple[Any, Recording]:
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 1))
    optimizer = Recording(model.parameters(), lr=1e-2)
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "zero_optimization": {
            "stage": 2,
            "reduce_bucket_size": 10_000,
            "allgather_bucket_size": 10_000,
        },
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    return engine, optimizer


class Job:
    """One run of the loop.

    Attributes:
        commands: rank 0's source.
        running: steps after which control was running.
    """

    def __init__(self, folder: Path, name: str, **settings: Any) -> None:
        self.engine, self.optimizer = make_engine()
        self.commands = MemorySource()
        self.sign = signer(folder / "control.key")
        self.log, self.name = Log(), name
        self.running: list[int] = []
        self.losses: list[str] = []
        logging.getLogger("infoplane.agent").addHandler(self.log)
        config = {
            "transport": "memory",
            "run": name,
            "control.public_keys": str(folder / "control.pub"),
            "control.every_steps": 2,
            "control.wait_s": WAIT_S,
            "control.agree_timeout_s": 20,
        }
        self.monitor: Monitor = attach(
            self.engine, config=config | settings, commands=self.commands
        )

    def command(self, action: str, value: float = 0.0, place: str = "", **more: Any) -> None:
        """Rank 0: send a signed command."""
        identity = f"{self.name}/{action}/{place}"
        self.commands.put(
            self.sign(
                pb.Command(
                    run=self.monitor.run,
                    attempt=self.monitor.attempt,
                    id=identity,
                    nonce=nonce_of(identity),
                    action=action,
                    value=value,
                    high=20,
                    issued_ms=time.time_ns() // 1_000_000,
                    expires_ms=time.time_ns() // 1_000_000 + 60_000,
                    **more,
                )
            )
        )

    def train(self, each: Callable[[Job, int], None] | None = None) -> dict[str, Any]:
        """Train until STEPS or until told to stop; `each(job, step)` runs after every step."""
        data = torch.Generator().manual_seed(RANK)
        schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.99)
        between = []
        for step in range(STEPS):
            x = torch.randn(4, 8, generator=data)
            loss = (self.engine(x) - x.sum(1, keepdim=True)).square().mean()
            self.engine.backward(loss)
            self.engine.step()
            schedule.step()
            between.append(self.optimizer.param_groups[0]["lr"])
            self.losses.append(loss.item().hex())
            control = self.monitor._session.control if self.monitor._session else None
            if control is not None and control.is_running:
                self.running.append(step)
            if each is not None:
                each(self, step)
            if self.monitor.should_stop:
                break
            time.sleep(0.003)
        return self.report(between)

    def report(self, between: list[float]) -> dict[str, Any]:
        parameters = hashlib.sha256()
        for parameter in self.engine.module.parameters():
            parameters.update(parameter.detach().numpy().tobytes())
        factor = self.monitor.learning_rate_factor
        self.monitor.close()
        stats = self.monitor.stats()
        self.engine.destroy()
        logging.getLogger("infoplane.agent").removeHandler(self.log)
        audit = [
            decode(m.value, pb.AuditEntry) for m in self.monitor.messages if "audit" in m.topic
        ]
        return {
            "losses": self.losses,
            "parameters": parameters.hexdigest(),
            "inside": self.optimizer.inside,
            "between": between,
            "running": [self.running[0], self.running[-1]] if self.running else [],
            "log": self.log.lines,
            "factor": factor,
            "breaks": sum(v for k, v in stats.items() if k.startswith("control_breaks")),
            "audit": [
                {
                    "id": e.id, "stage": e.stage, "step": e.step, "rank": e.rank, "reason": e.reason,
                    "details": {d.name: d.value for d in e.details},
                }
                for e in audit
            ],
        }  # fmt: skip


ON = {"control.enabled": True}


def commanded(job: Job, step: int) -> None:
    """Halve the rate, replay that, then put it back; in between a command that nobody may give."""
    if RANK == 0 and len(job.running) == 3:
        job.command("learning_rate_factor", 0.5, "first", if_value=1.0)
        job.command("learning_rate_factor", 0.5, "first", if_value=1.0)
        job.command("learning_rate_factor", 5.0, "too high")
    if RANK == 0 and len(job.running) == 12:
        job.command("learning_rate_factor", 1.0, "second", if_value=0.5)


def detaching(job: Job, step: int) -> None:
    """Rank 1 leaves in the middle, with a factor in force and a command yet to be sent."""
    if RANK == 0 and len(job.running) == 3:
        job.command("learning_rate_factor", 0.5, "first")
    if RANK == OTHER and len(job.running) == 14:
        job.monitor.detach()
    if RANK == 0 and len(job.running) == 14:
        job.command("learning_rate_factor", 0.25, "lost")


def leaving(job: Job, step: int) -> None:
    """Rank 1 leaves between the two boundaries of a beat that carries a command."""
    if RANK == 0 and len(job.running) == 14:
        job.command("learning_rate_factor", 0.25, "under way")
    if RANK == OTHER and len(job.running) == 15:
        job.monitor.detach()


def ending(job: Job, step: int) -> None:
    """A checkpoint, then the end."""
    if RANK == 0 and len(job.running) == 3:
        job.command("checkpoint")
    if RANK == 0 and len(job.running) == 10:
        job.command("stop")


def resumed(folder: Path) -> dict[str, Any]:
    """Load the checkpoint that a command wrote."""
    engine, _ = make_engine()
    path, _ = engine.load_checkpoint(str(folder / "checkpoints"))
    found = {"path": path, "steps": engine.global_steps}
    engine.destroy()
    return found


def work(folder: Path) -> dict[str, Any]:
    mine = f"on-{RANK}"
    only_first: dict[str, Any] = {"on-0": ON, "on-1": {}}
    differing = {"on-0": ON, "on-1": ON | {"control.every_steps": 3}}
    saving = ON | {"control.checkpoint_dir": str(folder / "checkpoints")}
    results = {
        "off": Job(folder, "off").train(),
        "idle": Job(folder, "idle", **ON).train(),
        "commanded": Job(folder, "commanded", **ON).train(commanded),
        "one_rank": Job(folder, "one_rank", **only_first[mine]).train(),
        "differing": Job(folder, "differing", **differing[mine]).train(),
        "detaching": Job(folder, "detaching", **ON).train(detaching),
        "leaving": Job(folder, "leaving", **ON).train(leaving),
        "ending": Job(folder, "ending", **saving).train(ending),
        "resumed": resumed(folder),
    }
    short = ON | {"control.agree_timeout_s": 1, "attempt": 1}
    absent = {"enabled": RANK != OTHER}
    results["absent"] = Job(folder, "absent", **short, **absent).train(
        lambda job, step: time.sleep(0.02)
    )
    return results


def main(folder: Path) -> None:
    # No compiled operation: one alone takes 40 s to build, and probing for compilers some more.
    deepspeed.ops.__compatible_ops__ = defaultdict(bool)
    torch.use_deterministic_algorithms(True)
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    result = work(folder)
    partial = folder / f"partial-{RANK}"
    partial.write_text(json.dumps(result))
    partial.rename(folder / f"result-{RANK}.json")
    torch.distributed.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # native threads of gloo may abort the interpreter's exit after a good run
