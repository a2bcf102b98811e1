"""Trains a small model with DeepSpeed on one CUDA device, without and with the agent: `deepspeed_job.py STAGE DTYPE`.

Prints one line of JSON: by `off` and `on`, losses, hash of the parameters, faults, and steps with sketches.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import Any

import torch
from watched import batches, faults_of, llama, records_of, watch

STEPS = 9


def config(stage: str, dtype: str) -> dict[str, Any]:
    """Return DeepSpeed's configuration; `offload` is ZeRO 3 with everything offloaded."""
    zero: dict[str, Any] = {"stage": 3 if stage == "offload" else int(stage)}
    if stage == "offload":
        zero |= {
            "offload_param": {"device": "cpu", "pin_memory": True},
            "offload_optimizer": {"device": "cpu", "pin_memory": True},
        }
    return {
        "train_micro_batch_size_per_gpu": 4,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": dtype == "bf16"},
        "steps_per_print": 10**9,
    }


def trained(stage: str, dtype: str, *, is_watched: bool) -> dict[str, Any]:
    """Train once."""
    import deepspeed

    model = llama()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config(stage, dtype))
    monitor = watch(engine, attempt=1) if is_watched else None
    losses = []
    for batch in batches(STEPS, torch.device("cuda")):
        loss = engine(input_ids=batch, labels=batch).loss
        engine.backward(loss)
        engine.step()
        losses.append(loss.detach())
    digest = hashlib.sha256()
    with deepspeed.zero.GatheredParameters(list(engine.module.parameters())):
        for parameter in engine.module.parameters():
            digest.update(parameter.detach().float().cpu().numpy().tobytes())
    found = {"losses": [loss.item().hex() for loss in losses], "parameters": digest.hexdigest()}
    engine.destroy()
    if monitor is not None:
        records = records_of(monitor)
        found["steps"] = sorted({r.step for r in records if r.WhichOneof("body") == "sketch"})
        found["faults"] = faults_of(monitor)
    return found


if __name__ == "__main__":
    os.environ |= {
        "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[3],
    }  # fmt: skip
    told = {
        name: trained(sys.argv[1], sys.argv[2], is_watched=name == "on") for name in ("off", "on")
    }
    print(json.dumps(told))
    # Ends without the destructors of NCCL, which wait for nobody's ranks.
    sys.stdout.flush()
    os._exit(0)
