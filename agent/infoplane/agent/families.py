"""Families: how the modules inside a block are called, as data. A family is told by the shape of the tree.

Names were taken from transformers 5.24; nothing of it is imported. The names of wrappers (torch.compile, activation
checkpointing, FSDP) are left out before names are compared. What stands in front of the blocks does not matter, so
PEFT's prefix `base_model.model.` needs no family of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from torch import nn


@dataclass(frozen=True, slots=True)
class Family:
    """Where the sites of a block are.

    Attributes:
        name: for people.
        marks: names of modules that a block of this family has.
        attn: patterns of the names inside a block, the first that matches a module is taken: the output projection of
            attention, which is row-parallel, so that its output is whole on every rank.
        mlp: the same for the last layer of the MLP; for a mixture of experts the module around all of them.
        norm: names of norms, as one pattern.
    """

    name: str
    marks: tuple[str, ...]
    attn: tuple[str, ...]
    mlp: tuple[str, ...]
    norm: str


_LLAMA_NORMS: Final = r"(input|post_attention|(pre|post)_feedforward)_layernorm"
FAMILIES: Final = (
    Family("Mixtral, Qwen-MoE", ("self_attn.o_proj", "mlp.experts"),
           (r"self_attn\.o_proj",), ("mlp",), _LLAMA_NORMS),
    Family("Mixtral of transformers 4", ("self_attn.o_proj", "block_sparse_moe"),
           (r"self_attn\.o_proj",), ("block_sparse_moe",), _LLAMA_NORMS),
    Family("Llama, Mistral, Qwen", ("self_attn.o_proj", "mlp.down_proj"),
           (r"self_attn\.o_proj",), (r"mlp\.down_proj",), _LLAMA_NORMS),
    Family("GPT-NeoX", ("attention.query_key_value", "mlp.dense_4h_to_h"),
           (r"attention\.dense",), (r"mlp\.dense_4h_to_h",), "(input|post_attention)_layernorm"),
    Family("GPT-2", ("attn.c_attn", "mlp.c_proj"),
           (r"attn\.c_proj",), (r"mlp\.c_proj",), r"ln_\d"),
    Family(
        "plain modules", (),
        (r"(.*\.)?(self_?)?att(n|ention)\.(.*\.)?(o_proj|out_proj|dense|c_proj|wo|proj|out|o)",
         r"(.*\.)?(self_?)?att(n|ention)"),
        (r"(.*\.)?(mlp|ffn?|feed_forward)\.(down_proj|dense_4h_to_h|c_proj|fc2|w2|out_proj|proj|down)",
         r"down_proj|fc2|linear2|w2|down", r"(.*\.)?(mlp|ffn?|feed_forward|moe)"),
        r"(.*\.)?(?![qk]_)\w*?(norm\w*|ln(_?\w)?)",
    ),
)  # fmt: skip
ACTIVATIONS: Final = (
    nn.GELU, nn.ReLU, nn.ReLU6, nn.SiLU, nn.Tanh, nn.ELU, nn.Mish, nn.LeakyReLU, nn.Hardswish,
)  # fmt: skip
_ACT_NAMES: Final = frozenset({"act", "act_fn", "activation", "activation_fn", "gelu_impl"})
_WRAPPERS: Final = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)(?:\.|$)"
)

Named = tuple[str, nn.Module]


def family_of(block: nn.Module) -> Family:
    """Return the family of a block; the last one, which knows usual names only, for a block of no other."""
    names = {name for name, _ in inside(block)}
    return next(family for family in FAMILIES if names.issuperset(family.marks))


def attention_output(block: nn.Module) -> Named | None:
    """Return (name inside the block, module) whose output is that of attention; None if there is none."""
    return _first(block, family_of(block).attn)


def mlp_output(block: nn.Module) -> Named | None:
    """Return (name inside the block, module) whose output is that of the MLP; None if there is none."""
    return _first(block, family_of(block).mlp)


def norms(block: nn.Module) -> list[Named]:
    """Return the norms of a block in its order, without those of queries and keys."""
    pattern = re.compile(family_of(block).norm, re.IGNORECASE)
    return [
        (name, module) for name, module in inside(block)
        if pattern.fullmatch(name) and not any(module.children())
    ]  # fmt: skip


def activations(block: nn.Module) -> Iterator[Named]:
    """Yield the activation functions of a block that see every token: those of routed experts do not."""
    for name, module in inside(block):
        last = name.rpartition(".")[2]
        is_known = isinstance(module, ACTIVATIONS)
        is_named = last in _ACT_NAMES and not any(module.children())
        if (is_known or is_named) and not any(map(_is_routed, name.split("."))):
            yield name, module


def _is_routed(part: str) -> bool:
    # An expert sees the tokens that were routed to it, and padding; a shared one sees all.
    return "expert" in part and "shared" not in part


def inside(block: nn.Module) -> Iterator[Named]:
    """Yield (name without wrappers, module) of every module inside `block`, in its order."""
    for name, module in block.named_modules():
        plain = _WRAPPERS.sub("", name).rstrip(".")
        if plain:
            yield plain, module


def _first(block: nn.Module, patterns: Sequence[str]) -> Named | None:
    for pattern in patterns:
        for name, module in inside(block):
            if re.fullmatch(pattern, name) and not _is_bypassed(block, name):
                return name, module
    return None


def _is_bypassed(block: nn.Module, name: str) -> bool:
    """Whether the module's parent uses its weight without calling it, as nn.MultiheadAttention does."""
    parent = name.rpartition(".")[0]
    return any(
        found == parent and isinstance(module, nn.MultiheadAttention)
        for found, module in inside(block)
    )
