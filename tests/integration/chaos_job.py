"""The training job of test_agent_chaos.py: `python chaos_job.py CASE FOLDER`. Settings come from the environment.

Prints `STEP n` after every step, `END` when it is through; a broker test says `go` on stdin then. What it found is
in `result-RANK.json`. The agent is on unless INFOPLANE_ENABLED=0, which is how the control runs.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from infoplane.agent import Monitor, attach

RANK, WORLD = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
STEPS = int(os.environ.get("CHAOS_STEPS", "30"))
PACE_S = float(os.environ.get("CHAOS_PACE_S", "0"))
VOCABULARY, WIDTH, LAYERS, LENGTH = 61, 32, 4, 16


class Trapped(dict[str, torch.Tensor]):
    """What a block returns; whoever looks for a tensor in it, as a tap does, gets `error`."""

    error: BaseException = ValueError("no value")

    def values(self) -> Any:
        """Raise `error`."""
        raise self.error


class Block(nn.Module):
    def __init__(self, *, is_trapped: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.act, self.down = nn.Linear(WIDTH, 64), nn.GELU(), nn.Linear(64, WIDTH)
        self.is_trapped = is_trapped

    def forward(self, given: Any) -> Any:
        x = given["x"] if isinstance(given, dict) else given
        x = x + self.down(self.act(self.up(self.norm(x))))
        return Trapped(x=x) if self.is_trapped else x


class Model(nn.Module):
    def __init__(self, *, is_trapped: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block(is_trapped=is_trapped) for _ in range(LAYERS))
        self.final_norm = nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x: Any = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        x = x["x"] if isinstance(x, dict) else x
        logits = self.lm_head(self.final_norm(x))
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Sentences(torch.utils.data.Dataset[torch.Tensor]):
    """Token ids by number: equal in every process."""

    def __len__(self) -> int:
        return 4 * STEPS

    def __getitem__(self, place: int) -> torch.Tensor:
        random = torch.Generator().manual_seed(1000 * RANK + place)
        return torch.randint(VOCABULARY, (LENGTH + 1,), generator=random)


class Stuck:
    """A transport that takes one message for ever, once the gate is shut."""

    def __init__(self, counters: Any) -> None:
        self._counters = counters

    def send(self, message: Any) -> bool:
        """Never return."""
        time.sleep(3600)
        return True

    def poll(self) -> None:
        """Do nothing."""

    def close(self, timeout_s: float) -> None:
        """Do nothing."""


def say(line: str) -> None:
    print(line, flush=True)


def batches(**loading: Any) -> Iterator[torch.Tensor]:
    yield from torch.utils.data.DataLoader(Sentences(), batch_size=4, **loading)


def train(model: Model, monitor: Monitor, data: Iterator[torch.Tensor]) -> list[str]:
    """Return the losses, as exact texts."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for step, ids in enumerate(data):
        began = time.monotonic()
        loss = model(ids[:, :-1], ids[:, 1:])
        loss.backward()
        if WORLD > 1:
            for parameter in model.parameters():
                torch.distributed.all_reduce(parameter.grad)
        optimizer.step()
        optimizer.zero_grad()
        monitor.log(loss=loss)
        monitor.step()
        losses.append(float(loss.detach()).hex())
        say(f"STEP {step}")
        time.sleep(max(0.0, PACE_S - (time.monotonic() - began)))
    return losses


def plain(**attaching: Any) -> dict[str, Any]:
    model = Model()
    monitor = attach(model, **attaching)
    return {"losses": train(model, monitor, batches()), "monitor": monitor}


def trapped(error: BaseException) -> dict[str, Any]:
    """The taps of all blocks raise."""
    Trapped.error = error
    model = Model(is_trapped=True)
    monitor = attach(model)
    return {"losses": train(model, monitor, batches()), "monitor": monitor}


def loaders() -> dict[str, Any]:
    """Workers of a DataLoader are forked, or not, from a process with hooks, threads and a queue."""
    model = Model()
    monitor = attach(model)
    losses = []
    for context, workers in (("fork", 2), ("forkserver", 1), ("spawn", 1)):
        loading = {"num_workers": workers, "multiprocessing_context": context}
        losses += train(model, monitor, batches(**loading))
    return {"losses": losses, "monitor": monitor}


def cycles() -> dict[str, Any]:
    """Attach, train two steps and close, many times; return what there is after every tenth, as `_held` says."""
    model = Model()
    data = list(batches())[:2]
    seen = []
    for number in range(int(os.environ["CHAOS_CYCLES"])):
        with attach(model) as monitor:
            for ids in data:
                model(ids[:, :-1], ids[:, 1:]).backward()
                monitor.step()
        model.zero_grad(set_to_none=True)
        if number % 10 == 9:
            seen.append(_held())
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    return {"seen": seen, "hooks": hooks}


def _held() -> tuple[int, ...]:
    """Return (threads, descriptors, Python objects, resident bytes), without what only waits to be freed."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    descriptors = len(os.listdir("/proc/self/fd"))
    return threading.active_count(), descriptors, len(gc.get_objects()), _resident_bytes()


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": plain,
    "raising": lambda: trapped(ValueError("no tensor today")),
    "memory": lambda: trapped(torch.cuda.OutOfMemoryError("CUDA out of memory")),
    "stuck": lambda: plain(factory=Stuck),
    "loaders": loaders,
    "cycles": cycles,
}


def main(case: str, folder: Path) -> None:
    torch.manual_seed(5)
    if WORLD > 1:
        torch.distributed.init_process_group("gloo")
    result = CASES[case]()
    say("END")
    ending = os.environ.get("CHAOS_END", "")
    if "wait" in ending:
        sys.stdin.readline()
    monitor = result.pop("monitor", None)
    if "close" in ending and monitor is not None:
        monitor.close()
    result["stats"] = monitor.stats() if monitor is not None else {}
    partial = folder / f"partial-{RANK}"
    partial.write_text(json.dumps(result))
    partial.rename(folder / f"result-{RANK}.json")
    if WORLD > 1:
        torch.distributed.barrier()
    if "_exit" in ending or WORLD > 1:
        sys.stdout.flush()
        os._exit(3 if "_exit" in ending else 0)  # gloo's threads may abort an orderly exit


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
