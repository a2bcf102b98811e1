"""The job of the kill matrix: a tiny DeepSpeed run at a steady pace. `torchrun matrix_job.py FOLDER STEPS PACE_S`."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

VOCABULARY, WIDTH, BLOCKS, LENGTH = 61, 32, 3, 16


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.act, self.down = nn.Linear(WIDTH, 64), nn.GELU(), nn.Linear(64, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(self.act(self.up(self.norm(x))))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.final_norm = nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        logits = self.lm_head(self.final_norm(x))
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _observe(monitor: Any, rank: int, step: int) -> None:
    """Publish comparisons of six texts by their length, judged rightly; the same on both ranks every other step."""
    texts = [f"{'ab' * (k + 1)} {step // 2 % 5}" for k in range(6)]
    pairs = [(a, b) for a in range(6) for b in range(a) if (a + b + step * (rank + 1)) % 3]
    monitor.observe_preferences(
        ["prompt"] * len(pairs),
        [texts[a] for a, _ in pairs],
        [texts[b] for _, b in pairs],
        rewards_chosen=[float(a) for a, _ in pairs],
        rewards_rejected=[float(b) for _, b in pairs],
        features_chosen=torch.eye(6)[[a for a, _ in pairs]],
        features_rejected=torch.eye(6)[[b for _, b in pairs]],
    )


def main(folder: Path, steps: int, pace_s: float) -> None:
    import deepspeed
    import deepspeed.ops

    from infoplane.agent import attach

    # It would be compiled, and serves inference only.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    torch.manual_seed(5)
    model = Model()
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "zero_optimization": {"stage": 1},
        "zero_allow_untested_optimizer": True,
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    rank = dist.get_rank()
    losses = []
    with attach(engine) as monitor, (folder / f"step-{rank}").open("w") as progress:
        for step in range(steps):
            began = time.monotonic()
            random = torch.Generator().manual_seed(1000 * rank + step)
            ids = torch.randint(VOCABULARY, (4, LENGTH + 1), generator=random)
            ids[:, 1:] = (ids[:, :1] + torch.arange(1, LENGTH + 1)) % VOCABULARY
            loss = engine(ids[:, :-1], ids[:, 1:])
            monitor.log(loss=loss)
            _observe(monitor, rank, step)
            engine.backward(loss)
            engine.step()
            losses.append(float(loss.detach()).hex())
            progress.write(f"{step}\n")
            progress.flush()
            time.sleep(max(0.0, pace_s - (time.monotonic() - began)))
    parameters = [float(p.detach().double().sum()).hex() for p in model.parameters()]
    result = {"losses": losses, "parameters": parameters, "stats": monitor.stats()}
    partial = folder / f"partial-{rank}"
    partial.write_text(json.dumps(result))
    partial.rename(folder / f"result-{rank}.json")
    dist.barrier()
    sys.stdout.flush()
    os._exit(0)  # native threads of gloo may abort an orderly exit


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
