"""Small models for the matrix of parallel layouts: the same weights everywhere, cut up as each layout wants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

VOCABULARY, WIDTH, LAYERS, LENGTH, BATCH = 64, 32, 4, 32, 8
RECOMPUTE = ("none", "reentrant", "nonreentrant", "ds", "ds_nonreentrant")


def llama() -> Any:
    """Return a Llama of 4 layers with grouped heads, without dropout."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LENGTH,
        attn_implementation="sdpa",
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def batch(step: int) -> torch.Tensor:
    """Return the token ids of a whole step, (BATCH, LENGTH + 1), whatever the layout."""
    generator = torch.Generator().manual_seed(1000 + step)
    return torch.randint(0, VOCABULARY, (BATCH, LENGTH + 1), generator=generator)


def checkpointing(recompute: str) -> Callable[..., Any]:
    """Return the function of one of the four flavours of activation checkpointing."""
    from functools import partial

    from torch.utils.checkpoint import checkpoint

    if recompute in ("reentrant", "nonreentrant"):
        return partial(checkpoint, use_reentrant=recompute == "reentrant")
    from deepspeed.runtime.activation_checkpointing import checkpointing as ours

    return ours.checkpoint if recompute == "ds" else ours.non_reentrant_checkpoint


def recompute_layers(model: Any, recompute: str) -> None:
    """Turn activation checkpointing on in a Hugging Face model."""
    if recompute == "none":
        return
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": True})
    for layer in model.model.layers:
        layer._gradient_checkpointing_func = checkpointing(recompute)
    # Reentrant checkpointing needs an input that requires a gradient.
    model.enable_input_require_grads()


class PipeBlock(nn.Module):
    """One decoder layer that makes its own positions: stages pass the hidden states only."""

    def __init__(self, layer: nn.Module, rotary: nn.Module) -> None:
        super().__init__()
        self.layer, self.rotary = layer, rotary

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(hidden.shape[1]).unsqueeze(0)
        rotated = self.rotary(hidden, positions)
        return self.layer(hidden, position_ids=positions, position_embeddings=rotated)


def pipe_layers(model: Any) -> list[nn.Module]:
    """Return the model as a flat list of layers."""
    inner = model.model
    blocks = [PipeBlock(layer, inner.rotary_emb) for layer in inner.layers]
    return [inner.embed_tokens, *blocks, inner.norm, model.lm_head]


def next_token_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy with targets that are already shifted."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class ExpertBlock(nn.Module):
    """A block whose feed-forward part is a mixture of four experts."""

    def __init__(self, ep_size: int) -> None:
        super().__init__()
        from deepspeed.moe.layer import MoE

        self.norm = nn.LayerNorm(WIDTH)
        expert = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.moe = MoE(
            WIDTH, expert, num_experts=4, ep_size=ep_size, k=1, use_rts=False, drop_tokens=False
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.moe(self.norm(x))[0]


class Mixture(nn.Module):
    """A language model of such blocks; `run` wraps each one."""

    def __init__(self, ep_size: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(ExpertBlock(ep_size) for _ in range(LAYERS))
        self.final_norm = nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, VOCABULARY)
        self.run: Callable[..., Any] | None = None

    def forward(self, input_ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.embed(input_ids)
        for block in self.blocks:
            x = self.run(block, x) if self.run else block(x)
        return next_token_loss(self.lm_head(self.final_norm(x)), targets)


def mixture(ep_size: int) -> Mixture:
    """Return the mixture with weights that do not depend on how experts are spread."""
    import torch.distributed as dist

    torch.manual_seed(7)
    model = Mixture(ep_size)
    local = 4 // ep_size
    first = (dist.get_rank() % ep_size) * local
    for number, parameter in enumerate(model.parameters()):
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    for depth, block in enumerate(model.blocks):
        for place, expert in enumerate(block.moe.deepspeed_moe.experts.deepspeed_experts):
            generator = torch.Generator().manual_seed(10_000 + 100 * depth + first + place)
            with torch.no_grad():
                for parameter in expert.parameters():
                    parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    # Numbers of parameters differ with the number of local experts, so what comes after them is set anew.
    for name, parameter in model.named_parameters():
        if "experts" not in name:
            generator = torch.Generator().manual_seed(sum(name.encode()))
            with torch.no_grad():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model
