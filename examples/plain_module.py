"""A plain PyTorch loop, watched: attach once, and say when a step is over."""

from __future__ import annotations

import torch
from torch import nn

from infoplane.agent import attach


class Block(nn.Module):
    """One layer of the toy model."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the residual stream after this block."""
        out: torch.Tensor = x + self.down(self.act(self.up(x)))
        return out


class Model(nn.Module):
    """Learns to add its neighbours: every token's target is the sum of the last two, modulo 64."""

    def __init__(self, width: int = 64, blocks: int = 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(64, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, 64)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return logits `(batch, length, 64)`."""
        x = self.embedding(tokens)
        x = x + x.roll(1, dims=1)
        for block in self.blocks:
            x = block(x)
        logits: torch.Tensor = self.lm_head(self.norm(x))
        return logits


def main() -> None:
    """Train for 512 steps: with the default level, four windows."""
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    with attach(
        model, run="plain-example", announce=lambda step: {"learning_rate": 1e-3}
    ) as monitor:
        for _ in range(512):
            tokens = torch.randint(0, 64, (16, 32))
            targets = (tokens + tokens.roll(1, dims=1)) % 64
            loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
            monitor.log(loss=loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.step()


if __name__ == "__main__":
    main()
