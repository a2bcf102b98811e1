"""How a rank of the demo's jobs begins and ends: gloo on the CPU, started by torchrun."""

from __future__ import annotations

import os
import sys

import torch.distributed as dist


def join_process_group() -> None:
    """Meet the other ranks."""
    import deepspeed
    import deepspeed.ops

    # DeepSpeed would compile this op at start, for an inference path that training never takes.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="gloo")


def leave_process() -> None:
    """Wait for the other ranks and end this process."""
    dist.barrier()
    sys.stdout.flush()
    sys.stderr.flush()
    # gloo's threads may abort the process while the interpreter shuts down, after all work is done.
    os._exit(0)
