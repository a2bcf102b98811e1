"""Losses and parameters are equal bit by bit with the agent on, switched off, and not installed.

Two gloo ranks per case run 30 steps under ZeRO stages 0 to 3, with dropout (so that a touched
random state would show) and two micro-batches per step. With the agent on, every tap fires at
every step. This file is the worker too: `python test_bit_parity.py CASE RANK FOLDER`.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from rank_processes import run_ranks

CASES = ("absent", "off", "on")
STAGES = (0, 1, 2, 3)
RANKS = 2
STEPS = 30
LAYERS = 3
TAPS = {"embed", "final_norm"} | {f"0{i}/{s}" for i in range(LAYERS) for s in ("block", "act")}

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run the workers and return what each rank wrote."""
    if find_spec("deepspeed") is None:
        pytest.skip("needs DeepSpeed")
    folder = tmp_path_factory.mktemp("parity")
    run_ranks(lambda rank: [__file__, str(rank), str(folder)], RANKS, folder, patience_s=280)
    files = [folder / f"result-{rank}.json" for rank in range(RANKS)]
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.parametrize("stage", STAGES)
def test_losses_parameters_and_random_state_are_bit_equal(results: list[Any], stage: int) -> None:
    for result in results:
        absent, off, on = (result[case][str(stage)]["trained"] for case in CASES)
        assert len(absent["losses"]) == STEPS
        assert absent["losses"][0] != absent["losses"][-1], "nothing was trained"
        assert off == absent
        assert on == absent


def test_the_case_without_the_agent_never_imports_it(results: list[Any]) -> None:
    for result in results:
        assert not any(run["imported"] for run in result["absent"].values())
        assert all(run["imported"] for run in result["on"].values())


def test_switched_off_means_no_hook_and_no_thread(results: list[Any]) -> None:
    for result in results:
        for run in result["off"].values():
            assert (run["hooks"], run["threads"], run["enabled"]) == (0, 0, False)


@pytest.mark.parametrize("stage", STAGES)
def test_every_tap_of_every_step_reached_the_transport(results: list[Any], stage: int) -> None:
    for rank, result in enumerate(results):
        run = result["on"][str(stage)]
        assert run["hooks"] > 0
        assert run["sketched"] == {str(step): sorted(TAPS) for step in range(STEPS)}
        assert run["tokens"] == list(range(STEPS))
        assert run["bye"] == STEPS - 1
        assert run["sender"] == [rank, RANKS]


@pytest.mark.parametrize("stage", STAGES)
def test_ranks_agree_on_run_and_attempt_and_draw_different_rows(
    results: list[Any], stage: int
) -> None:
    first, second = (result["on"][str(stage)] for result in results)
    assert first["identity"] == second["identity"]
    assert not set(first["row_keys"]) & set(second["row_keys"])


# ---------------------------------------------------------------- the worker


def _model() -> Any:
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(width)
            self.up, self.act = nn.Linear(width, 2 * width), nn.GELU()
            self.down, self.drop = nn.Linear(2 * width, width), nn.Dropout(0.1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.drop(self.down(self.act(self.up(self.norm(x)))))

    class Model(nn.Module):
        def __init__(self, vocabulary: int = 61, width: int = 32) -> None:
            super().__init__()
            self.embed = nn.Embedding(vocabulary, width)
            self.blocks = nn.ModuleList(Block(width) for _ in range(LAYERS))
            self.final_norm = nn.LayerNorm(width)
            self.lm_head = nn.Linear(width, vocabulary)

        def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            x = self.embed(ids)
            for block in self.blocks:
                x = block(x)
            logits = self.lm_head(self.final_norm(x))
            return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    torch.manual_seed(7)
    return Model()


def _engine(model: Any, stage: int) -> Any:
    import deepspeed
    import torch

    config = {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 2,
        # Buckets default to 2 GB, which deterministic mode would fill at every step.
        "zero_optimization": {
            "stage": stage,
            "reduce_bucket_size": 10_000,
            "allgather_bucket_size": 10_000,
        },
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    return engine


def _train(stage: int, attach: Any) -> dict[str, Any]:
    import deepspeed
    import torch

    model = _model()
    engine = _engine(model, stage)
    attach(engine)
    data = torch.Generator().manual_seed(int(os.environ["RANK"]))
    losses = []
    for _ in range(STEPS):
        for _ in range(2):
            ids = torch.randint(0, 61, (2, 17), generator=data)
            loss = engine(ids[:, :-1], ids[:, 1:])
            engine.backward(loss)
            engine.step()
        losses.append(loss.item().hex())
    parameters = hashlib.sha256()
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        for parameter in model.parameters():
            parameters.update(parameter.detach().numpy().tobytes())
    result = {"losses": losses, "parameters": parameters.hexdigest(), "rng": _random_state()}
    engine.destroy()
    return result


def _random_state() -> str:
    import torch

    return hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest()


def _attach_to(path: Path, reports: dict[str, Any]) -> Any:
    """Return a function that attaches the agent and keeps what it needs to report later."""
    import threading

    from infoplane.agent import attach

    def attach_to(engine: Any) -> None:
        monitor = attach(
            engine,
            config={
                "transport": "file",
                "file.path": str(path),
                "sampling.base_level": 0,
                "governor.enabled": False,
            },
            buffers={"slots": 16},
        )
        modules = list(engine.module.modules())
        # DeepSpeed has hooks of its own, so only the agent's are counted.
        hooks = [
            h for m in modules for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())
        ]
        reports["hooks"] = sum(type(h).__module__.startswith("infoplane") for h in hooks)
        reports["threads"] = sum("infoplane" in t.name for t in threading.enumerate())
        reports["enabled"] = monitor.enabled
        reports["identity"] = [monitor.run, monitor.attempt]

    return attach_to


def _read_back(path: Path) -> dict[str, Any]:
    """Return what the file transport wrote, per kind of record."""
    from infoplane.wire import decode, from_tensor
    from infoplane.wire import infoplane_pb2 as pb
    from infoplane.wire.log import read_log

    found: dict[str, Any] = {"sketched": {}, "tokens": [], "bye": -1, "row_keys": []}
    for entry in read_log(path):
        record = decode(entry.value, pb.Record)
        body = record.WhichOneof("body")
        found["sender"] = [record.sender.index, record.sender.count]
        if body == "sketch":
            found["sketched"][str(record.step)] = sorted(t.tap for t in record.sketch.taps)
            found["row_keys"] += from_tensor(record.sketch.row_keys).tolist()
        elif body == "tokens":
            found["tokens"].append(record.step)
        elif body == "bye":
            found["bye"] = record.bye.last_step
    return found


def _work(rank: int, folder: Path) -> None:
    import deepspeed
    import deepspeed.ops
    import torch

    torch.use_deterministic_algorithms(True)
    # No compiled operation: one alone takes 40 s to build, and probing for compilers some more.
    deepspeed.ops.__compatible_ops__ = defaultdict(bool)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS
    )
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    # "absent" comes first: nothing has imported the agent by then.
    result = {case: {s: _run(case, s, rank, folder) for s in STAGES} for case in CASES}
    partial = folder / f"partial-{rank}"
    partial.write_text(json.dumps(result))
    partial.rename(folder / f"result-{rank}.json")
    torch.distributed.barrier()


def _run(case: str, stage: int, rank: int, folder: Path) -> dict[str, Any]:
    path = folder / f"records-{case}-{stage}-{rank}"
    report: dict[str, Any] = {}
    os.environ["INFOPLANE_ENABLED"] = "0" if case == "off" else "1"
    attach = (lambda engine: None) if case == "absent" else _attach_to(path, report)
    report["trained"] = _train(stage, attach)
    report["imported"] = "infoplane.agent" in sys.modules
    return report | (_read_back(path) if case == "on" else {})


if __name__ == "__main__":
    _work(int(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)
