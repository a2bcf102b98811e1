"""Sampling of responses, with a cache of keys and values: without it, sampling takes most of the demo's time."""

from __future__ import annotations

import torch
from torch.nn import functional

from infoplane.cli.demo.model import Block
from infoplane.cli.demo.rlhf.models import PROMPT, RESPONSE, Policy

Cache = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of every block, `(n, heads, length, width / heads)`."""


@torch.no_grad()
def sample(policy: Policy, prompts: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return `prompts`, `(n, PROMPT)`, with RESPONSE sampled bytes each, at temperature 1."""
    cache: Cache = []
    tokens, new = prompts, prompts
    for place in range(PROMPT, PROMPT + RESPONSE):
        logits = next_logits(policy, new, place - new.shape[1], cache)
        new = torch.multinomial(torch.softmax(logits, dim=-1), 1, generator=generator)
        tokens = torch.cat([tokens, new], dim=1)
    return tokens


def next_logits(policy: Policy, tokens: torch.Tensor, start: int, cache: Cache) -> torch.Tensor:
    """Return the logits `(n, V)` after `tokens`, which follow the `start` tokens in `cache`; extends the cache.

    After the first call, `tokens` is one byte a row: it may look at everything before it.
    """
    positions = policy.positions.weight[start : start + tokens.shape[1]]
    x = policy.embedding(tokens) + positions
    for number, block in enumerate(policy.blocks):
        assert isinstance(block, Block)
        x = x + _attend(block, block.attention_norm(x), number, cache)
        x = x + block.down(block.act(block.up(block.mlp_norm(x))))
    logits: torch.Tensor = policy.lm_head(policy.norm(x[:, -1]))
    return logits


def _attend(block: Block, x: torch.Tensor, number: int, cache: Cache) -> torch.Tensor:
    batch, length, width = x.shape
    heads = block.attention.heads
    split = block.attention.qkv(x).view(batch, length, 3, heads, width // heads)
    query, key, value = split.permute(2, 0, 3, 1, 4)
    if number < len(cache):
        old_key, old_value = cache[number]
        cache[number] = torch.cat([old_key, key], dim=2), torch.cat([old_value, value], dim=2)
    else:
        cache.append((key, value))
    mixed = functional.scaled_dot_product_attention(query, *cache[number], is_causal=length > 1)
    out: torch.Tensor = block.attention.out(mixed.transpose(1, 2).reshape(batch, length, width))
    return out
