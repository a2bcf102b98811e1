"""What flex and flash attention show, whose kernels need a GPU, against masks written out."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

transformers = pytest.importorskip("transformers")

from infoplane.agent.probes import attention  # noqa: E402

B, S = 2, 48


def layer(implementation: str) -> nn.Module:
    from transformers.models.llama.modeling_llama import LlamaAttention

    config = transformers.LlamaConfig(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=1
    )
    config._attn_implementation = implementation
    return LlamaAttention(config, 0)


def block_mask(kind: str) -> tuple[Any, torch.Tensor]:
    """Return a BlockMask for flex attention, and the boolean mask that it stands for."""
    from torch.nn.attention.flex_attention import create_block_mask

    segments = torch.tensor([0] * 20 + [1] * 28).expand(B, S)

    def packed_rule(b: Any, h: Any, q: Any, k: Any) -> Any:
        return (q >= k) & (segments[b, q] == segments[b, k])

    def heads_rule(b: Any, h: Any, q: Any, k: Any) -> Any:
        return (q >= k) & (q - k <= 4 * h + 1)

    rule, heads = (packed_rule, None) if kind == "packed" else (heads_rule, 4)
    mask = create_block_mask(rule, B, heads, S, S, device="cpu", BLOCK_SIZE=16)
    place = torch.arange(S)
    number = torch.arange(heads or 1).view(-1, 1, 1)
    whole = [rule(b, number, place[:, None], place).expand(heads or 1, S, S) for b in range(B)]
    return mask, torch.stack(whole)


@pytest.mark.parametrize("kind", ["packed", "heads"])
def test_block_masks_of_flex_attention(kind: str) -> None:
    mask, wanted = block_mask(kind)
    module = layer("flex_attention")
    query = torch.zeros(B, 4, S, 8)
    rows = torch.tensor([47, 3, 20, 19])
    call = {"query": query, "key": query[:, :2], "attention_mask": mask}
    sight = attention.sight_of(module, call, rows)
    assert torch.equal(sight.visible.expand(B, wanted.shape[1], 4, S), wanted[:, :, rows])


def test_flash_attention_is_told_lengths_and_windows_instead_of_masks() -> None:
    module = layer("flash_attention_2")
    rows, place = torch.tensor([47, 3, 20, 19]), torch.arange(S)
    causal = place[:, None] >= place
    query = torch.zeros(1, 4, S, 8)
    call: dict[str, Any] = {"query": query, "key": query, "attention_mask": None}
    sight = partial(attention.sight_of, module, rows=rows)
    assert torch.equal(sight(call).visible[0, 0], causal[rows])
    window = causal & (place[:, None] - place < 7)
    assert torch.equal(sight({**call, "sliding_window": 7}).visible[0, 0], window[rows])
    blocks = torch.block_diag(*(torch.ones(n, n) for n in (13, 20, 15))).bool() & causal
    bounds = torch.tensor([0, 13, 33, 48], dtype=torch.int32)
    assert torch.equal(sight({**call, "cu_seq_lens_q": bounds}).visible[0, 0], blocks[rows])
    positions = torch.cat([torch.arange(n) for n in (13, 20, 15)])[None]
    assert torch.equal(sight({**call, "position_ids": positions}).visible[0, 0], blocks[rows])
    padding = (place < 40).long()[None]
    visible = sight({**call, "attention_mask": padding}).visible[0, 0]
    assert torch.equal(visible, (causal & (place < 40) & (place < 40)[:, None])[rows])
