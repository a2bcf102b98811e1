"""Two torchrun agents, as on two nodes, of which the second has none of our environment variables.

Either the second finds everything in the DeepSpeed config, or it says loudly what is missing; training goes on and
ends. This file is the worker too: `torchrun ... test_two_nodes.py FOLDER`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from rank_processes import free_port, rank_environment

STEPS = 24
LIMIT_S = 150
RUN = "two-nodes"

pytestmark = pytest.mark.integration


def _start_node(node: int, port: int, folder: Path, own: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node_rank={node}", "--nproc_per_node=1",
        "--master_addr=127.0.0.1", f"--master_port={port}", __file__, str(folder),
    ]  # fmt: skip
    with (folder / f"log-{node}").open("wb") as log:
        return subprocess.Popen(command, env=rank_environment(**own), stdout=log, stderr=log)


def run_nodes(folder: Path, first: dict[str, str], section: dict[str, Any]) -> list[dict[str, Any]]:
    """Run both nodes, the first with `first` in its environment, and return what each rank wrote."""
    (folder / "section.json").write_text(json.dumps(section))
    port = free_port()
    nodes = [_start_node(node, port, folder, first if node == 0 else {}) for node in range(2)]
    deadline = time.monotonic() + LIMIT_S
    try:
        for node in nodes:
            node.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for node in nodes:
            node.kill()
            node.wait()
    files = [folder / f"result-{rank}.json" for rank in range(2)]
    logs = [(folder / f"log-{rank}").read_text() for rank in range(2)]
    assert all(file.exists() for file in files), "\n".join(log[-3000:] for log in logs)
    return [{**json.loads(f.read_text()), "log": log} for f, log in zip(files, logs, strict=True)]


@pytest.fixture(autouse=True)
def _deepspeed(require: Any) -> None:
    require("deepspeed", find_spec("deepspeed") is not None, "DeepSpeed is not installed")


def test_the_deepspeed_config_reaches_the_second_node(tmp_path: Path) -> None:
    section = {
        "run": RUN,
        "transport": "file",
        "file": {"path": str(tmp_path / "{rank}.iplog")},
        "sampling": {"base_level": 0},
        "governor": {"enabled": False},
    }
    first, second = run_nodes(tmp_path, {}, section)
    assert (first["run"], first["attempt"]) == (second["run"], second["attempt"])
    assert second["run"] == RUN
    assert all(rank["sent"] > 0 and rank["steps"] == STEPS for rank in (first, second))
    assert "set up differently" not in first["log"] + second["log"]
    assert all((tmp_path / f"{rank}.iplog").stat().st_size > 10_000 for rank in range(2))


def test_without_it_the_second_node_says_what_is_missing(tmp_path: Path) -> None:
    own = {
        "INFOPLANE_RUN": RUN,
        "INFOPLANE_TRANSPORT": "file",
        "INFOPLANE_FILE__PATH": str(tmp_path / "{rank}.iplog"),
        "INFOPLANE_SAMPLING__BASE_LEVEL": "0",
    }
    first, second = run_nodes(tmp_path, own, {})
    assert first["losses"] == second["losses"]
    assert len(second["losses"]) == STEPS
    assert (second["run"], second["attempt"]) == (RUN, first["attempt"])
    (said,) = [line for line in second["log"].splitlines() if "set up differently" in line]
    assert "transport is 'kafka' here, 'file' on rank 0" in said
    assert "sampling.base_level is 4 here, 0 on rank 0" in said
    assert ".deepspeed_env" in said
    assert "set up differently" not in first["log"]
    assert second["differ"] == 2
    assert max(first["seconds"], second["seconds"]) < LIMIT_S / 2


# ---------------------------------------------------------------- the worker


def _work(folder: Path) -> None:
    import deepspeed
    import deepspeed.ops
    import torch
    import torch.distributed as dist
    from torch import nn

    started = time.monotonic()
    # It would be compiled, and serves inference only.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo", verbose=False)
    torch.manual_seed(3)
    model = nn.Sequential(nn.Embedding(61, 16), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 61))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    config = {
        "train_micro_batch_size_per_gpu": 2,
        "zero_optimization": {"stage": 1},
        "zero_allow_untested_optimizer": True,
        "infoplane": json.loads((folder / "section.json").read_text()),
    }
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    from infoplane.agent import attach

    losses = []
    with attach(engine) as monitor:
        for step in range(STEPS):
            ids = torch.randint(61, (2, 9), generator=torch.Generator().manual_seed(step))
            logits = engine(ids[:, :-1])
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
            engine.backward(loss)
            engine.step()
            losses.append(float(loss.detach()))
        time.sleep(1.0)  # the comparison runs beside the training, which is over in no time here
    stats = monitor.stats()
    result = {
        "run": monitor.run,
        "attempt": monitor.attempt,
        "sent": stats.get("records_sent", 0),
        "steps": stats.get("steps", 0),
        "differ": stats.get("settings_differ", 0),
        "losses": losses,
        "seconds": time.monotonic() - started,
    }
    (folder / f"result-{dist.get_rank()}.json").write_text(json.dumps(result))
    dist.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # native threads of gloo may abort an orderly exit


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
