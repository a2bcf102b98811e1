"""DeepSpeed engines on a CUDA device: the same training with and without the agent."""

from __future__ import annotations

import importlib.util
import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

JOB = Path(__file__).with_name("deepspeed_job.py")
CELLS = [(stage, "fp32") for stage in ("0", "1", "2", "3", "offload")] + [("2", "bf16")]


@pytest.mark.parametrize(("stage", "dtype"), CELLS)
def test_training_is_bit_equal_with_the_agent(
    cuda: torch.device, require: Callable[[str, bool, str], None], stage: str, dtype: str
) -> None:
    has_deepspeed = importlib.util.find_spec("deepspeed") is not None
    require("deepspeed", has_deepspeed, "deepspeed is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    done = subprocess.run(
        [sys.executable, str(JOB), stage, dtype, port], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["on"]["losses"] == told["off"]["losses"]
    assert told["on"]["parameters"] == told["off"]["parameters"]
    assert told["on"]["steps"] == list(range(0, 9, 2))
    assert not told["on"]["faults"]
