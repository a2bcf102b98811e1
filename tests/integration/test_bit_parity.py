"""Losses and parameters are equal bit by bit with the agent on, switched off, and not installed.

Two gloo ranks per case run 30 steps under ZeRO stages 0 to 3, with dropout (so that a touched
random state would show) and two micro-batches per step. With the agent on, every tap fires at
every step. This file is the worker too: `python test_bit_parity.py CASE RANK FOLDER`.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

CASES = ("absent", "off", "on")
STAGES = (0, 1, 2, 3)
RANKS = 2
STEPS = 30
LAYERS = 3
TAPS = {"embed", "final_norm"} | {f"0{i}/{s}" for i in range(LAYERS) for s in ("block", "act")}

Results = dict[str, list[dict[str, Any]]]
pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Run every case and return what each of its ranks wrote."""
    if find_spec("deepspeed") is None:
        pytest.skip("needs DeepSpeed")
    folder = tmp_path_factory.mktemp("parity")
    return {case: _run_case(case, folder / case) for case in CASES}


def _run_case(case: str, folder: Path) -> list[dict[str, Any]]:
    folder.mkdir()
    workers = [_start_worker(case, rank, folder) for rank in range(RANKS)]
    deadline = time.monotonic() + 120
    try:
        for worker in workers:
            worker.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for worker in workers:
            worker.kill()
    files = [folder / f"result-{rank}.json" for rank in range(RANKS)]
    # Native threads may abort the interpreter's exit after a good run, so the file is the judge.
    missing = [(folder / f"log-{i}").read_text()[-3000:] for i, f in enumerate(files) if not f.exists()]
    assert not missing, "\n".join(missing)
    return [json.loads(file.read_text()) for file in files]


def _start_worker(case: str, rank: int, folder: Path) -> subprocess.Popen[bytes]:
    own = {k: v for k, v in os.environ.items() if not k.startswith("INFOPLANE_")}
    own |= {
        "DS_ACCELERATOR": "cpu",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(RANKS),
        "INFOPLANE_ENABLED": "0" if case == "off" else "1",
    }
    command = [sys.executable, __file__, case, str(rank), str(folder)]
    with (folder / f"log-{rank}").open("wb") as log:
        return subprocess.Popen(command, env=own, stdout=log, stderr=log)


@pytest.mark.parametrize("stage", STAGES)
def test_losses_and_parameters_are_bit_equal(results: Results, stage: int) -> None:
    for rank in range(RANKS):
        absent, off, on = (results[case][rank]["stages"][str(stage)] for case in CASES)
        assert len(absent["losses"]) == STEPS
        assert absent["losses"][0] != absent["losses"][-1], "nothing was trained"
        assert off == absent
        assert on == absent


def test_the_run_without_the_agent_never_imports_it(results: Results) -> None:
    assert not any(result["imported"] for result in results["absent"])
    assert all(result["imported"] for result in results["on"])


def test_switched_off_means_no_hook_and_no_thread(results: Results) -> None:
    for result in results["off"]:
        assert not any(a["hooks"] for a in result["attached"].values())
        assert not any(a["threads"] for a in result["attached"].values())


@pytest.mark.parametrize("stage", STAGES)
def test_every_tap_of_every_step_reached_the_transport(results: Results, stage: int) -> None:
    for rank, result in enumerate(results["on"]):
        seen = result["attached"][str(stage)]
        assert seen["hooks"] > 0
        assert seen["sketched"] == {str(step): sorted(TAPS) for step in range(STEPS)}
        assert seen["tokens"] == list(range(STEPS))
        assert seen["bye"] == STEPS - 1
        assert seen["sender"] == [rank, RANKS]


def test_ranks_agree_on_run_and_attempt_and_draw_different_rows(results: Results) -> None:
    for stage in map(str, STAGES):
        first, second = (result["attached"][stage] for result in results["on"])
        assert first["identity"] == second["identity"]
        assert not set(first["row_keys"]) & set(second["row_keys"])


# ---------------------------------------------------------------- the worker


def _train(stage: int, attach: Any) -> dict[str, Any]:
    import deepspeed
    import torch
    from torch import nn

    torch.manual_seed(7)

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

    model = Model()
    config = {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 2,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
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
            config={"transport": "file", "file.path": str(path), "sampling.base_level": 0},
            buffers={"slots": 16},
        )
        modules = list(engine.module.modules())
        # DeepSpeed has hooks of its own, so only the agent's are counted.
        hooks = [h for m in modules for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
        reports["hooks"] = sum(type(h).__module__.startswith("infoplane") for h in hooks)
        reports["threads"] = sum("infoplane" in t.name for t in threading.enumerate())
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


def _work(case: str, rank: int, folder: Path) -> None:
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
    stages: dict[int, Any] = {}
    attached: dict[int, Any] = {}
    for stage in STAGES:
        path = folder / f"records-{stage}-{rank}"
        report: dict[str, Any] = {}
        attach = (lambda engine: None) if case == "absent" else _attach_to(path, report)
        stages[stage] = _train(stage, attach)
        attached[stage] = report | (_read_back(path) if case == "on" else {})
    result = {"stages": stages, "attached": attached, "imported": "infoplane.agent" in sys.modules}
    partial = folder / f"partial-{rank}"
    partial.write_text(json.dumps(result))
    partial.rename(folder / f"result-{rank}.json")
    torch.distributed.barrier()


if __name__ == "__main__":
    _work(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    sys.stdout.flush()
    os._exit(0)
