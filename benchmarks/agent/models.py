"""The models that the agent's benchmarks train, and a training loop around them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Size:
    """Size of a model and of its micro-batch; the default has 25.5 M parameters."""

    layers: int = 8
    width: int = 512
    batch: int = 4
    length: int = 128
    vocabulary: int = 256


class Layer(nn.Module):
    """A pre-norm transformer layer with heads of width 64."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.act, self.down = (
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x of the same shape, (B, S, d)."""
        batch, length, width = x.shape
        parts = self.qkv(self.norms[0](x)).view(batch, length, 3, -1, 64).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(self.act(self.up(self.norms[1](x))))


class Model(nn.Module):
    """A byte-level language model."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.embed = nn.Embedding(size.vocabulary, size.width)
        self.layers = nn.ModuleList(Layer(size.width) for _ in range(size.layers))
        self.final_norm = nn.LayerNorm(size.width)
        self.lm_head = nn.Linear(size.width, size.vocabulary)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy in nats."""
        x = self.embed(ids)
        for layer in self.layers:
            x = layer(x)
        logits = self.lm_head(self.final_norm(x))
        return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Trainer:
    """Trains one model on one batch, step by step."""

    def __init__(self, size: Size) -> None:
        torch.manual_seed(0)
        self.model = Model(size)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)
        self.ids = torch.randint(0, size.vocabulary, (size.batch, size.length + 1))

    @property
    def num_parameters(self) -> int:
        """Parameters of the model."""
        return sum(p.numel() for p in self.model.parameters())

    def step(self, after: Callable[[torch.Tensor], None] | None = None) -> tuple[float, float]:
        """Train one step, call `after(loss)` at its end, and return its (wall, process CPU) seconds."""
        start, start_cpu = time.perf_counter(), time.process_time()
        loss = self.model(self.ids[:, :-1], self.ids[:, 1:])
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        if after is not None:
            after(loss)
        return time.perf_counter() - start, time.process_time() - start_cpu
