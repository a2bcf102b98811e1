"""A Lightning Trainer, watched: one callback.

python examples/lightning_callback.py
"""

from __future__ import annotations

import sys

import lightning.pytorch as pl
import torch
from plain_module import Model
from torch import nn
from torch.utils.data import DataLoader

from infoplane.agent.frameworks.lightning import InfoplaneCallback


class NeighbourSums(pl.LightningModule):
    """The task of plain_module.py. The network is one child, so the callback finds it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Model()

    def training_step(self, tokens: torch.Tensor, index: int) -> torch.Tensor:
        """Return the loss on `tokens` (batch, length)."""
        targets = (tokens + tokens.roll(1, dims=1)) % 64
        loss = nn.functional.cross_entropy(self.network(tokens).flatten(0, 1), targets.flatten())
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main(steps: int = 256) -> None:
    """Train for `steps` steps; with the default level, 128 steps make a window."""
    torch.manual_seed(0)
    data = DataLoader(torch.randint(64, (4096, 32)), batch_size=16)
    trainer = pl.Trainer(
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        callbacks=[InfoplaneCallback(run="lightning-example")],
    )
    trainer.fit(NeighbourSums(), data)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
