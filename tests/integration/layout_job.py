"""One rank of one layout of the matrix: `python layout_job.py LAYOUT RANK WORLD FOLDER FLAVOUR...`.

A flavour is RECOMPUTE:COMPILE:ACCUMULATION, e.g. `reentrant:eager:2`. Every flavour is trained twice, without and with
the agent; losses, a hash of all parameters on this rank and the random state are written to FOLDER, and the records of
the agent beside them.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import traceback
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from layout_models import (
    BATCH,
    LENGTH,
    batch,
    checkpointing,
    llama,
    mixture,
    next_token_loss,
    pipe_layers,
    recompute_layers,
)

STEPS = 3
WITHOUT = "this cell fails without the agent"


def config(layout: str, accumulation: int, dp_size: int) -> dict[str, Any]:
    """Return the DeepSpeed config of a layout."""
    stage = int(layout[4]) if layout.startswith("zero") else 3 if layout == "offload" else 0
    zero: dict[str, Any] = {
        "stage": stage, "reduce_bucket_size": 10_000, "allgather_bucket_size": 10_000,
    }  # fmt: skip
    if layout == "offload":
        zero |= {"offload_param": {"device": "cpu"}, "offload_optimizer": {"device": "cpu"}}
    found = {
        "train_micro_batch_size_per_gpu": BATCH // dp_size // accumulation,
        "gradient_accumulation_steps": accumulation,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
    }
    if layout.startswith("tp"):
        found["tensor_parallel"] = {"autotp_size": 2}
    return found


def dp_size_of(layout: str, world: int) -> int:
    """Return how many ranks see batches of their own."""
    return {"pp2": 1, "pp2dp2": 2, "tp2": world // 2, "sp2": world // 2}.get(layout, world)


class Job:
    """One training run of one flavour."""

    def __init__(self, layout: str, flavour: str) -> None:
        self.layout = layout
        self.recompute, self.compile, accumulation = flavour.split(":")
        self.accumulation = int(accumulation)
        self.rank, self.world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self.dp_size = dp_size_of(layout, self.world)
        self.engine = self._engine()
        self.dp = self._dp()

    def _dp(self) -> int:
        if self.layout.startswith("pp"):
            return int(self.engine.grid.get_data_parallel_rank())
        return self.rank // (self.world // self.dp_size)

    def _engine(self) -> Any:
        import deepspeed

        settings = config(self.layout, self.accumulation, self.dp_size)
        model, keywords = self._model()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        engine, *_ = deepspeed.initialize(
            model=model, optimizer=optimizer, config=settings, **keywords
        )
        return engine

    def _model(self) -> tuple[Any, dict[str, Any]]:
        if self.layout.startswith("ep"):
            model = mixture(int(self.layout[2]))
            model.run = None if self.recompute == "none" else checkpointing(self.recompute)
            return model, {}
        model = llama()
        if self.layout.startswith("pp"):
            return self._pipeline(model), {}
        recompute_layers(model, self.recompute)
        if self.layout == "sp2":
            rows = BATCH // self.dp_size // self.accumulation
            return model, {"mpu": _ulysses(model, self.world // self.dp_size, rows)}
        return model, {}

    def _pipeline(self, model: Any) -> Any:
        from deepspeed.pipe import PipelineModule
        from deepspeed.runtime.activation_checkpointing import checkpointing as ours
        from deepspeed.runtime.pipe.topology import PipeDataParallelTopology

        function = ours.checkpoint if self.recompute == "none" else checkpointing(self.recompute)
        return PipelineModule(
            layers=pipe_layers(model),
            topology=PipeDataParallelTopology(2, self.world // 2),
            loss_fn=next_token_loss,
            partition_method="uniform",
            activation_checkpoint_interval=0 if self.recompute == "none" else 1,
            activation_checkpoint_func=function,
            checkpointable_layers=["PipeBlock"],
        )

    def micro_batches(self, step: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return (ids, targets) of this rank's micro-batches."""
        own = batch(step).chunk(self.dp_size)[self.dp]
        return [(ids[:, :-1], ids[:, 1:]) for ids in own.chunk(self.accumulation)]

    def step(self, step: int) -> str:
        """Train one step, and return the last loss."""
        pairs = self.micro_batches(step)
        if self.layout.startswith("pp"):
            return float(self.engine.train_batch(iter(pairs))).hex()
        for ids, targets in pairs:
            loss = self._forward(ids, targets)
            self.engine.backward(loss)
            self.engine.step()
        return float(loss.item()).hex()

    def _forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self.layout.startswith("ep"):
            return self.engine(ids, targets)
        if self.layout != "sp2":
            logits = self.engine(input_ids=ids).logits
            return next_token_loss(logits, targets)
        size = self.world // self.dp_size
        place = self.rank % size
        positions = torch.arange(LENGTH).expand(ids.shape)
        ids, targets, positions = (
            part.chunk(size, dim=1)[place].contiguous() for part in (ids, targets, positions)
        )
        return next_token_loss(
            self.engine(input_ids=ids, position_ids=positions, shift_labels=targets).logits, targets
        )

    def close(self) -> None:
        """End the engine."""
        self.engine.destroy()


def _ulysses(model: Any, size: int, rows: int) -> Any:
    from deepspeed.runtime.sequence_parallel import parallel_state_sp
    from deepspeed.runtime.sequence_parallel.ulysses_sp import UlyssesSPAttentionHF

    # The groups of the engine before; there is no public way to end them.
    parallel_state_sp._release_sequence_parallel_groups()
    return UlyssesSPAttentionHF.register_with_transformers(
        model_name_or_path=model,
        core_attn_implementation="sdpa",
        sequence_parallel_size=size,
        micro_batch_size=rows,
        seq_length_is_variable=True,
    )


def hash_of_parameters(engine: Any) -> str:
    """Return a hash of what this rank holds of the model."""
    import deepspeed

    digest = hashlib.sha256()
    with deepspeed.zero.GatheredParameters(list(engine.module.parameters())):
        for parameter in engine.module.parameters():
            digest.update(parameter.detach().numpy().tobytes())
    return digest.hexdigest()


@torch.library.custom_op("matrix::touch", mutates_args=("calls",))
def touch(calls: torch.Tensor, value: torch.Tensor) -> None:
    """Make a compiler materialise `value`, and do nothing with it."""
    calls += 1


@touch.register_fake
def _(calls: torch.Tensor, value: torch.Tensor) -> None:
    pass


def materialise(module: Any) -> None:
    """Hang a hook into every place that the agent would tap: the control for inductor."""
    from infoplane.agent.discovery import discover
    from infoplane.agent.outputs import find_float
    from infoplane.agent.settings import TapsSettings

    calls = torch.zeros(1)

    def look(_: Any, args: Any, output: Any) -> None:
        torch.ops.matrix.touch(calls, find_float(output).detach())

    for tap in discover(module, TapsSettings()).taps:
        tap.module.register_forward_hook(look)


def run(layout: str, flavour: str, records: Path | None, *, is_control: bool = False) -> Any:
    """Train one flavour; with the agent if `records` is given."""
    torch._dynamo.reset()
    kept = _attention_functions()
    job = Job(layout, flavour)
    monitor = None
    if records is not None:
        from infoplane.agent import attach

        monitor = attach(job.engine, config=settings(records))
    if is_control:
        materialise(job.engine.module)
    if job.compile != "eager":
        job.engine.compile(backend=job.compile)
    losses = [job.step(step) for step in range(STEPS)]
    found = {
        "losses": losses,
        "parameters": hash_of_parameters(job.engine),
        "rng": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest(),
        "stats": monitor.stats() if monitor else {},
    }
    job.close()
    if monitor is not None:
        monitor.close()
    _restore_attention(kept)
    return found


def settings(records: Path) -> dict[str, Any]:
    """Return what the agent is told: everything at every step."""
    return {
        "transport": "file",
        "file.path": str(records),
        "sampling.base_level": 0,
        "buffers.slots": 16,
        "run": "matrix",
        "attempt": 1,
        "governor.enabled": False,
        "taps.modules": r"q_proj$",  # column-parallel under tensor parallelism
    }


def _attention_functions() -> Any:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    return ALL_ATTENTION_FUNCTIONS["sdpa"]


def _restore_attention(kept: Any) -> None:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    # Ulysses puts its own function there, and the next model must not wrap it again.
    ALL_ATTENTION_FUNCTIONS["sdpa"] = kept


def main(layout: str, rank: int, world: int, folder: Path, flavours: list[str]) -> None:
    """Run every flavour without and with the agent, and write what came of it."""
    import deepspeed
    import deepspeed.ops

    torch.use_deterministic_algorithms(True)
    # No compiled operation: one alone takes 40 s to build, and probing for compilers some more.
    deepspeed.ops.__compatible_ops__ = defaultdict(bool)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world
    )
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    result: dict[str, Any] = {}
    for flavour in flavours:
        name = flavour.replace(":", "-")
        try:
            off = run(layout, flavour, None)
        except Exception:
            traceback.print_exc()
            print(WITHOUT, file=sys.stderr, flush=True)
            os._exit(1)
        result[flavour] = {
            "off": off,
            "on": run(layout, flavour, folder / f"records-{name}-{rank}"),
        }
        if "inductor" in flavour:
            result[flavour]["control"] = run(layout, flavour, None, is_control=True)
        _write(result, folder / f"done-{rank}.json")
    _write(result, folder / f"result-{rank}.json")
    torch.distributed.barrier()


def _write(result: dict[str, Any], path: Path) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result))
    partial.rename(path)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), sys.argv[5:])
    sys.stdout.flush()
    os._exit(0)
