"""Presets of model families, on real models made from configurations: every site fires with the right shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from every_step import EVERY_STEP
from torch import nn

from infoplane.agent import Monitor, attach
from infoplane.agent.discovery import discover
from infoplane.agent.families import (
    FAMILIES,
    activations,
    attention_output,
    family_of,
    mlp_output,
    norms,
)
from infoplane.agent.settings import TapsSettings
from infoplane.agent.taps import find_stack
from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb

transformers = pytest.importorskip("transformers")

SIZES = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}
EXPERTS = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2}
GPT2 = {"vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
# family, configuration class, its arguments, attention output, MLP output, norms a block, has activation taps
MODELS = {
    "llama": ("Llama, Mistral, Qwen", "LlamaConfig", GROUPED, "self_attn.o_proj", "mlp.down_proj", 2, True),
    "mistral": ("Llama, Mistral, Qwen", "MistralConfig", GROUPED, "self_attn.o_proj", "mlp.down_proj", 2, True),
    "qwen3": ("Llama, Mistral, Qwen", "Qwen3Config", GROUPED, "self_attn.o_proj", "mlp.down_proj", 2, True),
    "gemma2": ("Llama, Mistral, Qwen", "Gemma2Config", GROUPED, "self_attn.o_proj", "mlp.down_proj", 4, True),
    "mixtral": (
        "Mixtral, Qwen-MoE", "MixtralConfig", {**GROUPED, "num_local_experts": 4}, "self_attn.o_proj", "mlp", 2, False,
    ),
    "qwen3_moe": ("Mixtral, Qwen-MoE", "Qwen3MoeConfig", {**GROUPED, **EXPERTS}, "self_attn.o_proj", "mlp", 2, False),
    "qwen2_moe": (
        "Mixtral, Qwen-MoE", "Qwen2MoeConfig", {**GROUPED, **EXPERTS, "shared_expert_intermediate_size": 16},
        "self_attn.o_proj", "mlp", 2, True,
    ),
    "neox": ("GPT-NeoX", "GPTNeoXConfig", SIZES, "attention.dense", "mlp.dense_4h_to_h", 2, True),
    "gpt2": ("GPT-2", "GPT2Config", GPT2, "attn.c_proj", "mlp.c_proj", 2, True),
    "opt": (
        "plain modules", "OPTConfig",
        {**SIZES, "ffn_dim": 32, "max_position_embeddings": 64, "word_embed_proj_dim": 16},
        "self_attn.out_proj", "fc2", 2, True,
    ),
    "phi": ("plain modules", "PhiConfig", SIZES, "self_attn.dense", "mlp.fc2", 1, True),
    "bloom": (
        "plain modules", "BloomConfig", {"vocab_size": 64, "hidden_size": 16, "n_layer": 2, "n_head": 2},
        "self_attention.dense", "mlp.dense_4h_to_h", 2, True,
    ),
}  # fmt: skip
BATCH, LENGTH = 3, 8


def model_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    config = getattr(transformers, MODELS[name][1])(
        **MODELS[name][2], bos_token_id=1, eos_token_id=2, pad_token_id=0
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    return model.train()


@pytest.fixture
def run() -> Iterator[Callable[..., tuple[dict[str, pb.TapSketch], Monitor]]]:
    """Return a function that trains one step under the agent and returns the taps sent."""
    made: list[Monitor] = []

    def call(model: nn.Module, **settings: Any) -> tuple[dict[str, pb.TapSketch], Monitor]:
        monitor = attach(model, config=EVERY_STEP | settings)
        made.append(monitor)
        ids = torch.randint(3, 64, (BATCH, LENGTH), generator=torch.Generator().manual_seed(1))
        model(input_ids=ids, labels=ids).loss.backward()
        monitor.step()
        monitor.close()
        records = [decode(message.value, pb.Record) for message in monitor.messages]
        sketches = [r.sketch for r in records if r.WhichOneof("body") == "sketch"]
        return {
            tap.tap: tap for sketch in sketches for tap in sketch.taps if not tap.duplicate
        }, monitor

    yield call
    for monitor in made:
        monitor.close()


@pytest.mark.parametrize("name", MODELS)
def test_sites_are_where_the_family_has_them(name: str) -> None:
    family, _, _, attn, mlp, num_norms, _ = MODELS[name]
    block = find_stack(model_of(name)).blocks[1].module
    assert family_of(block).name == family
    assert attention_output(block) == (attn, block.get_submodule(attn))
    assert mlp_output(block) == (mlp, block.get_submodule(mlp))
    assert len(norms(block)) == num_norms


@pytest.mark.parametrize("name", MODELS)
def test_every_site_fires_once_a_step(
    name: str, run: Callable[..., tuple[dict[str, pb.TapSketch], Monitor]]
) -> None:
    *_, num_norms, has_act = MODELS[name]
    taps, monitor = run(
        model_of(name), profile="deep", **{"taps.norm": "on", "taps.logits": "on"}
    )  # fmt: skip
    sites = ["block", "attn", "mlp", *(f"norm{i + 1}" for i in range(num_norms))]
    sites += ["act"] if has_act else []
    expected = {f"0{layer}/{site}" for layer in (0, 1) for site in sites}
    assert set(taps) >= expected | {"embed", "final_norm", "logits"}
    assert not [key for key in monitor.stats() if key.startswith("tap_errors")]
    for tap in ("attn", "mlp", "block"):
        assert taps[f"01/{tap}"].width == 16
        assert taps[f"01/{tap}"].moments.n == BATCH * LENGTH
    assert taps["logits"].width == 64
    assert taps["logits"].rows.scaled.shape[0] == BATCH * LENGTH, "all rows are fewer than k"
    assert not taps["logits"].HasField("moments")


def test_what_a_site_sees_is_what_the_model_computes(
    run: Callable[..., tuple[dict[str, pb.TapSketch], Monitor]],
) -> None:
    """In a Llama block: output = input + attention + MLP, so the sums over tokens add up after the same projection."""
    taps, _ = run(model_of("llama"), profile="deep")
    from infoplane.wire import from_tensor

    total = {name: from_tensor(tap.moments.total) for name, tap in taps.items() if tap.moments.n}
    after = total["00/block"] + total["01/attn"] + total["01/mlp"]
    torch.testing.assert_close(
        torch.tensor(total["01/block"]), torch.tensor(after), rtol=0, atol=2e-4
    )


def test_a_mixture_keeps_all_its_taps(
    run: Callable[..., tuple[dict[str, pb.TapSketch], Monitor]],
) -> None:
    """The activation of routed experts sees other rows than the rest of the model, so it must not be tapped."""
    model = model_of("mixtral")
    taps, monitor = run(model)
    assert set(taps) >= {"embed", "00/block", "01/block", "final_norm"}
    assert "breaker_open" not in monitor.stats()
    assert "2 of 2 blocks" in discover(model, TapsSettings()).missing["act"]


def test_prefixes_of_adapters_change_nothing() -> None:
    plain = model_of("llama")
    wrapped = nn.ModuleDict({"base_model": nn.ModuleDict({"model": plain})})
    settings = TapsSettings(attn="on", mlp="on", norm="on", logits="on")
    bare, found = discover(plain, settings), discover(wrapped, settings)
    assert found.stack.blocks[0].name == "base_model.model.model.layers.0"
    assert [(t.name, t.module) for t in found.taps] == [(t.name, t.module) for t in bare.taps]


def test_names_of_wrappers_are_left_out() -> None:
    class Wrapper(nn.Module):
        """As torch's activation checkpointing names what it wraps."""

        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self._checkpoint_wrapped_module = module

    block = find_stack(model_of("llama")).blocks[0].module
    wrapped = Wrapper(block)
    assert family_of(wrapped).name == "Llama, Mistral, Qwen"
    assert attention_output(wrapped) == attention_output(block)
    assert [name for name, _ in norms(wrapped)] == [name for name, _ in norms(block)]


def test_attention_that_bypasses_its_projection_is_tapped_as_a_whole() -> None:
    """nn.MultiheadAttention multiplies by out_proj.weight without calling out_proj: a hook there never fires."""
    layer = nn.TransformerEncoderLayer(16, 2, 32)
    assert attention_output(layer) == ("self_attn", layer.self_attn)
    assert mlp_output(layer) == ("linear2", layer.linear2)
    assert [name for name, _ in norms(layer)] == ["norm1", "norm2"]


def test_the_last_family_takes_any_block() -> None:
    assert FAMILIES[-1].marks == ()
    block = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert family_of(block) is FAMILIES[-1]
    assert (attention_output(block), mlp_output(block), norms(block)) == (None, None, [])
    assert [name for name, _ in activations(block)] == ["1"]
