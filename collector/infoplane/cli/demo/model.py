"""A byte-level transformer, small enough for two CPU cores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import nn
from torch.nn import functional

VOCABULARY: Final = 256


class Attention(nn.Module):
    """Causal self-attention with several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mixed rows, `(batch, length, width)`."""
        batch, length, width = x.shape
        shape = (batch, length, 3, self.heads, width // self.heads)
        query, key, value = self.qkv(x).view(shape).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return out


class Block(nn.Module):
    """Attention and a ReLU MLP, each behind a norm and around the residual stream."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.act = nn.ReLU()
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the residual stream after this block, `(batch, length, width)`."""
        x = x + self.attention(self.attention_norm(x))
        out: torch.Tensor = x + self.down(self.act(self.up(self.mlp_norm(x))))
        return out


class ByteTransformer(nn.Module):
    """Predicts the next byte.

    Args:
        width: of the residual stream.
        blocks: number of blocks.
        heads: of each attention.
        length: longest sequence.
    """

    def __init__(self, width: int, blocks: int, heads: int, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, VOCABULARY, bias=False)
        self._initialise(blocks)

    def forward(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy in nats of `targets` given `tokens`, both `(batch, length)`."""
        logits = self.lm_head(self.hidden(tokens))
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return what the head reads, `(batch, length, width)`."""
        x = self.embedding(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        out: torch.Tensor = self.norm(x)
        return out

    def residual_writers(self) -> Iterator[tuple[torch.Tensor, int]]:
        """Yield every parameter whose output lands on the residual stream, and the axis of the width."""
        yield self.embedding.weight, 1
        yield self.positions.weight, 1
        for block in self.blocks:
            assert isinstance(block, Block)
            yield block.attention.out.weight, 0
            yield block.down.weight, 0

    def _initialise(self, blocks: int) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() < 2:
                continue
            # Writers of the residual stream start smaller, so that its variance does not grow with depth.
            is_writer = name.endswith(("attention.out.weight", "down.weight"))
            std = 0.02 / (2 * blocks) ** 0.5 if is_writer else 0.02
            nn.init.normal_(parameter, std=std)
