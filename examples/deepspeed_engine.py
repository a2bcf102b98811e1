"""A DeepSpeed engine, watched: one line after deepspeed.initialize.

torchrun --standalone --nproc_per_node 2 examples/deepspeed_engine.py
"""

from __future__ import annotations

import deepspeed
import torch
from torch import nn

from infoplane.agent import attach
from infoplane.cli.demo.model import ByteTransformer

CONFIG = {
    "train_micro_batch_size_per_gpu": 8,
    "zero_optimization": {"stage": 2},
    "zero_allow_untested_optimizer": True,
    # Settings of the agent may stand here; arguments and environment win over them.
    "infoplane": {"sampling": {"base_level": 2}, "tokens": {"mode": "buckets"}},
}


def main() -> None:
    """Train for 256 steps: at level 2 (every 4th step), eight windows."""
    torch.manual_seed(0)
    model: nn.Module = ByteTransformer(width=128, blocks=4, heads=4, length=64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=CONFIG)
    with attach(engine, announce=lambda step: {"learning_rate": 1e-3}) as monitor:
        for _ in range(256):
            # Periodic bytes: easy to learn, and the entropy of the blocks shows when that happens.
            starts = torch.randint(0, 256, (8, 1))
            tokens = (starts + torch.arange(65) * 7) % 256
            loss = engine(tokens[:, :-1], tokens[:, 1:])
            monitor.log(loss=loss.item())
            engine.backward(loss)
            engine.step()


if __name__ == "__main__":
    main()
