"""Routers: counts against the modules' own outputs, on real mixtures of transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from infoplane.agent.probes.router import _read_gate, _read_transformers
from infoplane.wire import from_tensor
from infoplane.wire import infoplane_pb2 as pb

EXPERTS, CHOICES = 6, 2
SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
    "vocab_size": 61, "max_position_embeddings": 64, "num_experts_per_tok": CHOICES,
}  # fmt: skip


def summaries(tap: pb.TapSketch) -> dict[str, np.ndarray]:
    return {found.name: from_tensor(found.values) for found in tap.summaries}


def mixtral() -> nn.Module:
    from transformers import MixtralConfig, MixtralForCausalLM

    return MixtralForCausalLM(
        MixtralConfig(**SIZES, intermediate_size=32, num_local_experts=EXPERTS)
    )


def qwen2() -> nn.Module:
    from transformers import Qwen2MoeConfig, Qwen2MoeForCausalLM

    return Qwen2MoeForCausalLM(
        Qwen2MoeConfig(
            **SIZES, intermediate_size=32, moe_intermediate_size=8,
            shared_expert_intermediate_size=8, num_experts=EXPERTS,
        )
    )  # fmt: skip


def qwen3() -> nn.Module:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    return Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            **SIZES, intermediate_size=32, moe_intermediate_size=8, num_experts=EXPERTS, head_dim=8
        )
    )


def deepseek() -> nn.Module:
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    return DeepseekV3ForCausalLM(
        DeepseekV3Config(
            **SIZES, intermediate_size=32, moe_intermediate_size=8, n_routed_experts=EXPERTS,
            num_local_experts=EXPERTS, n_group=1, topk_group=1, first_k_dense_replace=1,
            q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=8,
            n_shared_experts=1,
        )
    )  # fmt: skip


def train(loop: Any, steps: int = 2, micros: int = 1) -> list[torch.Tensor]:
    losses = []
    for _ in range(steps):
        for _ in range(micros):
            ids = torch.randint(0, 61, (2, 12), generator=loop.data)
            loss = loop.model(input_ids=ids, labels=ids).loss
            loss.backward()
            losses.append(loss.detach())
        loop.optimizer.step()
        loop.optimizer.zero_grad()
        loop.monitor.step()
    return losses


@pytest.mark.parametrize("make", [mixtral, qwen2, qwen3, deepseek])
def test_loads_and_probabilities_are_those_of_the_router(
    make_loop: Callable[..., Any], make: Callable[[], nn.Module]
) -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = make().train()
    routers = {
        int(name.split(".")[2]): module
        for name, module in model.named_modules()
        if type(module).__name__.lower().endswith("topkrouter")
    }
    outputs: dict[int, list[Any]] = {layer: [] for layer in routers}
    for layer, module in routers.items():
        if make is not deepseek:
            nn.init.normal_(module.weight)
        module.register_forward_hook(lambda m, a, out, at=layer: outputs[at].append(out) and None)
    loop = make_loop(model)  # on in the standard profile
    train(loop, steps=2, micros=2)
    taps = loop.taps()
    assert {n for n in taps[0] if n.endswith("/router")} == {f"0{at}/router" for at in routers}
    for layer, seen in outputs.items():
        for step in range(2):
            found = summaries(taps[step][f"0{layer}/router"])
            logits, _, indices = seen[2 * step]  # micro-batch 0 only
            load = np.bincount(indices.flatten().numpy(), minlength=EXPERTS)
            np.testing.assert_array_equal(found["load"], load)
            assert found["load"].dtype == np.int64
            assert found["load"].sum() == 24 * CHOICES
            p = logits.detach().double().softmax(-1)
            if make is deepseek:
                score = logits.detach().double().sigmoid()
                p = score / score.sum(-1, keepdim=True)
            np.testing.assert_allclose(found["probability"], p.sum(0), rtol=1e-5)
            entropy = -(p * p.log()).sum().item()
            np.testing.assert_allclose(found["entropy"], [entropy], rtol=1e-5)
            assert (found["tokens"], found["nonfinite"], found["passes"]) == ([24], [0], [1])
            assert found.keys().isdisjoint({"auxiliary", "dropped"})


def test_losses_are_bit_equal_with_the_probe_on_and_off(make_loop: Callable[..., Any]) -> None:
    pytest.importorskip("transformers")
    losses = []
    for choice in ("on", "off"):
        torch.manual_seed(0)
        losses.append(train(make_loop(mixtral().train(), **{"probes.router": choice}), steps=4))
    assert all(torch.equal(a, b) for a, b in zip(*losses, strict=True))


def test_recomputed_forwards_are_not_counted_again(make_loop: Callable[..., Any]) -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = mixtral().train()
    model.activation_checkpointing_enable()
    loop = make_loop(model)
    train(loop, steps=1)
    found = summaries(loop.taps()[0]["00/router"])
    assert found["load"].sum() == 24 * CHOICES
    assert found["passes"] == [1]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_deepspeeds_gate_is_read_in_both_of_its_forms(
    k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("deepspeed")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    from deepspeed.moe.sharded_moe import TopKGate

    torch.manual_seed(0)
    gate = TopKGate(8, 4, k=k, capacity_factor=0.5, min_capacity=1, top2_2nd_expert_sampling=False)
    gate.use_rts = False
    x = torch.randn(32, 8)
    logits = x @ gate.wg.weight.t()
    for is_sparse in (True, False):
        output = gate(x, None, is_sparse)
        with torch.no_grad():
            found = _read_gate(gate, (x, None), output, 4)
        load = np.bincount(logits.topk(k).indices.flatten().numpy(), minlength=4)
        np.testing.assert_array_equal(found.load.numpy(), load)
        torch.testing.assert_close(found.probability, logits.softmax(-1).detach())
        # Each expert takes half of its fair share at most.
        capacity = 32 * k // 4 // 2
        assert found.dropped is not None
        if k < 3:
            assert found.dropped.item() == np.maximum(load - capacity, 0).sum()
        assert 0 < found.dropped.item() < 32 * k
        assert found.auxiliary is output[0]


def test_a_router_that_returns_something_else_is_refused() -> None:
    with pytest.raises(TypeError, match="logits"):
        _read_transformers(nn.Linear(1, 1), (), (torch.ones(3, 4), torch.ones(3, 4)), 4)


def test_a_dense_model_says_why_it_has_no_router(
    make_loop: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "infoplane.agent")
    loop = make_loop()
    assert "router" not in loop.monitor.units
    assert "router     not captured: no router of a known kind" in caplog.text
