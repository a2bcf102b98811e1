"""One rank under the probes: `python probe_job.py SCENARIO RANK FOLDER`, two ranks on the CPU.

Scenarios: `moe` trains mixtures of DeepSpeed, `parameters` trains under ZeRO 0, 1 and 3, `pipeline` two stages. Every
case writes `CASE-RANK.npz`, what the rank itself knows, and `CASE-RANK.log`, the agent's records.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

RANKS, VOCABULARY, WIDTH, LENGTH, BATCH = 2, 61, 24, 16, 4
EXPERTS, MOE_STEPS = 4, 4
PARAMETER_STEPS, MICROS = 5, 2
STAGES = (0, 1, 3)
MOE_CASES = [(ep, k, probe) for ep in (1, 2) for k in (1, 2) for probe in ("on", "off")]
INTERVALS, PIPE_MICROS = (0, 1, 2), 4


class Dense(nn.Module):
    """The MLP of a block."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.act = nn.Linear(WIDTH, 2 * WIDTH), nn.GELU()
        self.down = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.act(self.up(x)))


class Block(nn.Module):
    """A residual block; with experts it adds their auxiliary loss to `auxiliary`."""

    def __init__(self, ep_size: int = 0, k: int = 1) -> None:
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(WIDTH), Dense()
        self.auxiliary: Any = 0.0
        if ep_size:
            from deepspeed.moe.layer import MoE

            self.mlp = MoE(WIDTH, Dense(), EXPERTS, ep_size, k=k, capacity_factor=0.75)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.mlp(self.norm(x))
        if isinstance(y, tuple):
            y, self.auxiliary, _ = y
        return x + y


class Model(nn.Module):
    def __init__(self, *experts: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block(*experts) for _ in range(3))
        self.final_norm = nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        logits = self.lm_head(self.final_norm(x))
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return loss + 0.01 * sum(block.auxiliary for block in self.blocks)


def loss_of(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def config(micros: int, stage: int = 0) -> dict[str, Any]:
    zero = {"stage": stage, "reduce_bucket_size": 10_000, "allgather_bucket_size": 10_000}
    if stage == 3:
        zero["stage3_param_persistence_threshold"] = 0
    return {
        "train_micro_batch_size_per_gpu": BATCH,
        "gradient_accumulation_steps": micros,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }


def engine_of(model: Any, settings: dict[str, Any]) -> Any:
    import deepspeed

    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.5)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    return engine


def attach_to(engine: Any, path: Path, **settings: Any) -> Any:
    from infoplane.agent import attach

    fixed = {
        "run": "probes", "attempt": 1, "transport": "file", "file.path": str(path),
        "sampling.base_level": 0, "sampling.width": 2, "governor.enabled": False,
    }  # fmt: skip
    return attach(engine, config=fixed | settings, buffers={"slots": 16})


def moe(rank: int, folder: Path) -> None:
    for ep, k, probe in MOE_CASES:
        torch.manual_seed(7)
        engine = engine_of(Model(ep, k), config(1))
        torch.manual_seed(100 + rank)
        name = f"moe-{ep}-{k}-{probe}-{rank}"
        attach_to(engine, folder / f"{name}.log", **{"probes.router": probe})
        seen: list[np.ndarray] = []
        for block in engine.module.blocks:
            block.mlp.deepspeed_moe.gate.register_forward_pre_hook(_gate_reader(seen))
        data, losses = torch.Generator().manual_seed(rank), []
        for _ in range(MOE_STEPS):
            ids = torch.randint(0, VOCABULARY, (BATCH, LENGTH + 1), generator=data)
            loss = engine(ids[:, :-1], ids[:, 1:])
            engine.backward(loss)
            engine.step()
            losses.append(loss.item())
        state = torch.get_rng_state().numpy()
        logits = np.array(seen).reshape(MOE_STEPS, 3, BATCH * LENGTH, EXPERTS)
        np.savez(folder / f"{name}.npz", losses=np.array(losses), state=state, logits=logits)
        engine.destroy()


def _gate_reader(seen: list[np.ndarray]) -> Any:
    def read(module: Any, args: Any) -> None:
        with torch.no_grad():
            seen.append((args[0].double() @ module.wg.weight.double().t()).numpy())

    return read


def parameters(rank: int, folder: Path) -> None:
    for stage in STAGES:
        for case in ("zero", "plain"):
            _train(stage, case, rank, folder)


def _train(stage: int, case: str, rank: int, folder: Path) -> None:
    """Train with all probes, or in the case `plain` without the agent."""
    import deepspeed

    torch.manual_seed(7)
    engine = engine_of(Model(), config(MICROS, stage))
    own, name = engine.monitor, f"{case}-{stage}-{rank}"
    probes = {f"probes.{probe}": "on" for probe in ("head", "weights", "gradients", "activation")}
    monitor = attach_to(engine, folder / f"{name}.log", **probes) if case == "zero" else None
    data, found = torch.Generator().manual_seed(rank), defaultdict(list)
    for _ in range(PARAMETER_STEPS):
        for _ in range(MICROS):
            ids = torch.randint(0, VOCABULARY, (BATCH, LENGTH + 1), generator=data)
            loss = engine(ids[:, :-1], ids[:, 1:])
            engine.backward(loss)
            engine.step()
        module = engine.module
        with deepspeed.zero.GatheredParameters(list(module.parameters())):
            found["head"].append(module.lm_head.weight.detach().numpy().copy())
            for layer, block in enumerate(module.blocks):
                whole = torch.cat([p.detach().flatten() for p in block.parameters()])
                found[f"block{layer}"].append(whole.numpy().copy())
    if monitor is not None:
        monitor.close()
    found["restored"] = [engine.monitor is own]
    np.savez(folder / f"{name}.npz", **found)
    engine.destroy()


def pipeline(rank: int, folder: Path) -> None:
    from deepspeed.pipe import PipelineModule

    for interval in INTERVALS:
        torch.manual_seed(7)
        model = Model()
        layers = [model.embed, *model.blocks, Block(), model.final_norm, model.lm_head]
        # Only blocks: what a checkpoint makes of token ids, which have no gradient, is not trained.
        module = PipelineModule(
            layers=layers, num_stages=2, loss_fn=loss_of, partition_method="uniform",
            activation_checkpoint_interval=interval, checkpointable_layers=["Block"],
        )  # fmt: skip
        calls: list[int] = []
        last = [child for child in module.children() if isinstance(child, Block)][-1]
        last.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        engine = engine_of(module, config(PIPE_MICROS))
        name = f"pipe-{interval}-{rank}"
        attach_to(engine, folder / f"{name}.log", **{"probes.gradients": "on", "probes.head": "on"})
        data = torch.Generator().manual_seed(3)
        for _ in range(2):
            ids = torch.randint(0, VOCABULARY, (PIPE_MICROS, BATCH, LENGTH + 1), generator=data)
            engine.train_batch(iter([(i[:, :-1], i[:, 1:]) for i in ids]))
        np.savez(folder / f"{name}.npz", calls=[len(calls)])
        engine.destroy()


def main(scenario: str, rank: int, folder: Path) -> None:
    import deepspeed
    import deepspeed.ops

    # No compiled operation: one alone takes 40 s to build.
    deepspeed.ops.__compatible_ops__ = defaultdict(bool)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS
    )
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    {"moe": moe, "parameters": parameters, "pipeline": pipeline}[scenario](rank, folder)
    (folder / f"done-{rank}").touch()
    torch.distributed.barrier()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    sys.stdout.flush()
    os._exit(0)
