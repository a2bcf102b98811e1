"""Anchor passes on two DeepSpeed ranks: collectives pair up, and losses are bit-equal.

This file is the ranks' worker too: `python test_anchor_ranks.py RANK FOLDER`.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rank_processes import run_ranks
from torch import nn

from infoplane.wire import from_tensor
from infoplane.wire import infoplane_pb2 as pb

RANKS, STEPS = 2, 9
STAGES = (0, 3)


def anchor_ids(size: int = 3, length: int = 7) -> torch.Tensor:
    return torch.randint(0, 61, (size, length), generator=torch.Generator().manual_seed(9))


def rows_of(tap: pb.TapSketch) -> np.ndarray:
    scale = from_tensor(tap.rows.scale).astype(np.float64)
    return from_tensor(tap.rows.scaled).astype(np.float64) * scale[:, None]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Run the workers and return what each rank wrote."""
    if find_spec("deepspeed") is None:
        pytest.skip("needs DeepSpeed")
    folder = tmp_path_factory.mktemp("anchors")
    run_ranks(lambda rank: [__file__, str(rank), str(folder)], RANKS, folder, patience_s=200)
    files = [folder / f"result-{rank}.json" for rank in range(RANKS)]
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.integration
@pytest.mark.parametrize("stage", STAGES)
def test_passes_of_all_ranks_pair_up_under_zero(results: list[Any], stage: int) -> None:
    for rank, result in enumerate(results):
        off, on = result[f"{stage}-off"], result[f"{stage}-on"]
        assert on["passes"] == 5
        assert on["losses"] == off["losses"]
        assert on["rng"] == off["rng"]
        # Replicas hold the same, so the first speaks for all.
        assert on["steps"] == ([0, 2, 4, 6, 8] if rank == 0 else [])
        assert on["taps"] == (6 if rank == 0 else 0)
    assert results[0][f"{stage}-on"]["rows"] == results[0]["0-on"]["rows"], "gathered weights"


def _train(stage: int, is_on: bool) -> dict[str, Any]:
    import deepspeed

    from infoplane.agent import attach
    from infoplane.wire import decode

    torch.manual_seed(7)
    model = _model()
    config = {
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": 2,
        "zero_optimization": {
            "stage": stage, "reduce_bucket_size": 10_000, "allgather_bucket_size": 10_000,
            "stage3_param_persistence_threshold": 0,
        },
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 10**9,
    }  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    settings = {"transport": "memory", "run": f"anchors-{stage}", "governor.enabled": False}
    levels = {"sampling.base_level": 0, "sampling.width": 1}
    monitor = attach(engine, config={**settings, **levels})
    if is_on:
        monitor.anchor((anchor_ids(),), every_windows=2)
    data = torch.Generator().manual_seed(int(os.environ["RANK"]))
    losses = []
    for _ in range(STEPS):
        for _ in range(2):
            ids = torch.randint(0, 61, (2, 17), generator=data)
            loss = engine(ids[:, :-1], ids[:, 1:])
            engine.backward(loss)
            engine.step()
        losses.append(loss.item().hex())
    monitor.close()
    records = [decode(message.value, pb.Record) for message in monitor.messages]
    found = [r for r in records if r.unit == "anchor" and r.WhichOneof("body") == "sketch"]
    result = {
        "losses": losses,
        "rng": torch.get_rng_state().sum().item(),
        "passes": monitor.stats().get("anchor_passes", 0),
        "steps": [record.step for record in found],
        "taps": len(found[0].sketch.taps) if found else 0,
        "rows": [round(float(rows_of(found[0].sketch.taps[3]).sum()), 3)] if found else [],
    }
    engine.destroy()
    return result


def _model() -> nn.Module:
    sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))
    from conftest import Model

    return Model()


def _work(rank: int, folder: Path) -> None:
    import deepspeed
    import deepspeed.ops

    # No compiled operation: one alone takes 40 s to build, and probing for compilers some more.
    deepspeed.ops.__compatible_ops__ = defaultdict(bool)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=RANKS
    )
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False)
    result = {
        f"{stage}-{'on' if on else 'off'}": _train(stage, on)
        for stage in STAGES
        for on in (False, True)
    }
    partial = folder / f"partial-{rank}"
    partial.write_text(json.dumps(result))
    partial.rename(folder / f"result-{rank}.json")


if __name__ == "__main__":
    _work(int(sys.argv[1]), Path(sys.argv[2]))
