"""Entropy of attention heads in real models, against the attention weights that eager attention returns."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from every_step import EVERY_STEP
from torch import nn
from torch.utils.checkpoint import checkpoint

transformers = pytest.importorskip("transformers")

from infoplane.agent import Monitor, attach  # noqa: E402
from infoplane.agent.attention_entropy import FIELDS  # noqa: E402
from infoplane.agent.identity import Coordinates  # noqa: E402
from infoplane.agent.probes import ProbeContext, attention  # noqa: E402
from infoplane.agent.sampling import RowSampling  # noqa: E402
from infoplane.agent.settings import Settings  # noqa: E402
from infoplane.agent.taps import Block, Stack  # noqa: E402
from infoplane.wire import decode, from_tensor  # noqa: E402
from infoplane.wire import infoplane_pb2 as pb  # noqa: E402

B, S, V, M = 2, 48, 83, 16
SIZES = {
    "vocab_size": V,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GPT2_SIZES = {"vocab_size": V, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
GPT2_SIZES |= dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)


def config_of(family: str) -> Any:
    if family == "gpt2":
        return transformers.GPT2Config(**GPT2_SIZES)
    if family == "neox":
        return transformers.GPTNeoXConfig(**SIZES)
    if family == "mistral":
        return transformers.MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=8)
    kind = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config}[family]
    return kind(**SIZES, num_key_value_heads=2)


def model_of(family: str, implementation: str = "sdpa", **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    config = config_of(family)
    for name, value in changes.items():
        setattr(config, name, value)
    model = transformers.AutoModelForCausalLM.from_config(
        config, attn_implementation=implementation
    )
    # Fresh weights attend to all keys alike, which any wrong mask but the causal one would too.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "embed" not in name:
                parameter.mul_(8)
    return model.train()


def watch(model: nn.Module, **settings: Any) -> Monitor:
    return attach(model, config=EVERY_STEP | settings)


def ids_of(seed: int = 5, length: int = S) -> torch.Tensor:
    return torch.randint(0, V, (B, length), generator=torch.Generator().manual_seed(seed))


def heads_of(monitor: Monitor) -> dict[int, dict[str, dict[str, np.ndarray]]]:
    """Close, and return the summaries by step, tap and name."""
    monitor.close()
    found: dict[int, dict[str, dict[str, np.ndarray]]] = {}
    for message in monitor.messages:
        record = decode(message.value, pb.Record)
        if record.unit == "attention" and record.WhichOneof("body") == "sketch":
            taps = found.setdefault(record.step, {})
            for tap in record.sketch.taps:
                taps[tap.tap] = {s.name: from_tensor(s.values) for s in tap.summaries}
                assert all(summary.merge == pb.ADD for summary in tap.summaries)
    return found


def reference(model: nn.Module, **inputs: Any) -> dict[str, dict[str, np.ndarray]]:
    """Return the summaries of step 0 from the weights that eager attention computes."""
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        weights = eager(**inputs, output_attentions=True, use_cache=False).attentions
    length = inputs["input_ids"].shape[1]
    rows = RowSampling(0, 0, M).pick(0, 0, length, torch.device("cpu"))[1]
    found = {}
    for layer, p in enumerate(weights):
        taken = p.double().index_select(2, rows)
        entropy = torch.special.entr(taken).sum(-1)
        seen = (taken > 0).sum(-1)
        is_compared = seen >= 32
        relative = torch.where(is_compared, entropy / seen.clamp(min=2).log(), 0.0)
        parts = (entropy, entropy.square(), torch.ones_like(entropy))
        parts += (relative, relative.square(), is_compared, torch.zeros_like(entropy))
        sums = [part.double().sum((0, 2)).numpy() for part in parts]
        found[f"{layer:02}/heads"] = dict(zip(FIELDS, sums, strict=True))
    return found


def assert_equal(found: dict[str, dict[str, np.ndarray]], wanted: Any) -> None:
    assert found.keys() == wanted.keys()
    for tap, summaries in wanted.items():
        assert found[tap].keys() == summaries.keys()
        for name, values in summaries.items():
            # Sums over B M rows: 1e-5 for the mean of a row.
            np.testing.assert_allclose(
                found[tap][name] / (B * M), values / (B * M), rtol=1e-6, atol=1e-5, err_msg=name
            )


def packed() -> torch.Tensor:
    return torch.cat([torch.arange(n) for n in (13, 20, 15)])[None].expand(B, S).contiguous()


def right_padding() -> torch.Tensor:
    mask = torch.ones(B, S, dtype=torch.int64)
    mask[1, 44:] = 0  # the last row still sees a token, with a window of 8 too
    return mask


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "neox", "gpt2"])
def test_entropies_equal_those_of_eager_attention(family: str, implementation: str) -> None:
    model, ids = model_of(family, implementation), ids_of()
    wanted = reference(model, input_ids=ids)
    monitor = watch(model)
    model(input_ids=ids, labels=ids).loss.backward()
    monitor.step()
    found = heads_of(monitor)[0]
    assert_equal(found, wanted)
    # Heads differ, and none of them looks at all keys alike: the comparison above is a sharp one.
    means = found["01/heads"]["entropy_sum"] / found["01/heads"]["entropy_count"]
    assert np.ptp(means) > 0.01
    assert means.max() < 0.9 * np.log(S / 2)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2"])
@pytest.mark.parametrize("inputs", [{"position_ids": packed}, {"attention_mask": right_padding}])
def test_packed_and_padded_sequences(
    family: str, implementation: str, inputs: dict[str, Callable[[], torch.Tensor]]
) -> None:
    model, ids = model_of(family, implementation), ids_of()
    given = {name: make() for name, make in inputs.items()}
    wanted = reference(model, input_ids=ids, **given)
    monitor = watch(model)
    # The cache would have packed sequences attend to each other.
    model(input_ids=ids, labels=ids, use_cache=False, **given).loss.backward()
    monitor.step()
    assert_equal(heads_of(monitor)[0], wanted)


def test_bfloat16_reads_what_the_model_computes() -> None:
    model, ids = model_of("llama").bfloat16(), ids_of()
    monitor = watch(model)
    model(input_ids=ids, labels=ids).loss.backward()
    monitor.step()
    found, wanted = heads_of(monitor)[0], reference(model.float(), input_ids=ids)
    for tap, summaries in wanted.items():
        difference = found[tap]["entropy_sum"] - summaries["entropy_sum"]
        assert np.abs(difference / (B * M)).max() < 0.05


# ---------------------------------------------------------------- training is left alone


def train(model: nn.Module, monitor: Monitor | None, steps: int = 3) -> tuple[list[Any], Any]:
    """Return losses and gradients of every step, and the state of the random numbers behind them."""
    torch.manual_seed(1)
    found = []
    for step in range(steps):
        ids = ids_of(step)
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        found.append([loss.detach().clone(), *(p.grad.clone() for p in model.parameters())])
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.sub_(0.01 * parameter.grad)
        model.zero_grad()
        if monitor is not None:
            monitor.step()
    return found, torch.get_rng_state()


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_losses_gradients_and_random_numbers_are_bit_equal(implementation: str) -> None:
    changes = {"attention_dropout": 0.2}
    model = model_of("llama", implementation, **changes)
    monitor = watch(model)
    found, state = train(model, monitor)
    assert len(heads_of(monitor)) == 3
    wanted, wanted_state = train(model_of("llama", implementation, **changes), None)
    assert torch.equal(state, wanted_state)
    for mine, theirs in zip(found, wanted, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def deepspeed_checkpoint(name: str) -> Callable[..., Any]:
    deepspeed = pytest.importorskip("deepspeed")
    return getattr(deepspeed.checkpointing, name)


FLAVOURS: dict[str, Callable[[], Callable[..., Any]]] = {
    "reentrant": lambda: partial(checkpoint, use_reentrant=True),
    "non_reentrant": lambda: partial(checkpoint, use_reentrant=False),
    "deepspeed": lambda: deepspeed_checkpoint("checkpoint"),
    "deepspeed_non_reentrant": lambda: deepspeed_checkpoint("non_reentrant_checkpoint"),
}


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_recomputed_layers_count_once(flavour: str, implementation: str) -> None:
    model, ids = model_of("llama", implementation), ids_of()
    wanted = reference(model, input_ids=ids)
    model.enable_input_require_grads()
    model._set_gradient_checkpointing(True, FLAVOURS[flavour]())
    calls: list[int] = []
    model.model.layers[0].self_attn.register_forward_hook(lambda *_: calls.append(1))
    monitor = watch(model)
    for _ in range(2):  # two micro-batches of one step: the first is sampled
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    monitor.step()
    assert len(calls) == 4  # it was recomputed
    found = heads_of(monitor)
    assert found.keys() == {0}
    assert_equal(found[0], wanted)
    for summaries in found[0].values():
        assert summaries["entropy_count"].tolist() == [B * M] * 4


# ---------------------------------------------------------------- the registry is given back


@pytest.fixture
def registry() -> Iterator[Any]:
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    assert "get_interface" not in vars(ALL_ATTENTION_FUNCTIONS)
    yield ALL_ATTENTION_FUNCTIONS
    assert "get_interface" not in vars(ALL_ATTENTION_FUNCTIONS)


def test_functions_are_replaced_only_while_a_sampled_micro_batch_runs(registry: Any) -> None:
    model = model_of("llama")
    seen: list[bool] = []

    def look(*_: Any) -> None:
        seen.append("get_interface" in vars(registry))

    model.model.layers[1].register_forward_hook(look)
    monitor = watch(model, **{"sampling.base_level": 1})
    for step in range(3):
        for _ in range(2):
            model(input_ids=ids_of(), labels=ids_of()).loss.backward()
            assert "get_interface" not in vars(registry)
        monitor.step()
        if step == 0:
            model.eval()
            model(input_ids=ids_of())
            model.train()
    assert seen == [True, False, False, False, False, True, False]
    assert heads_of(monitor).keys() == {0, 2}


@pytest.mark.parametrize("ending", ["forward", "step", "close"])
def test_an_exception_in_the_forward_leaves_nothing_behind(registry: Any, ending: str) -> None:
    model = model_of("llama")

    def fail(*_: Any) -> None:
        raise KeyError("the model's own")

    handle = model.model.layers[1].register_forward_hook(fail)
    monitor = watch(model)
    with pytest.raises(KeyError, match="own"):
        model(input_ids=ids_of(), labels=ids_of())
    handle.remove()
    model.eval()
    model(input_ids=ids_of(9))  # of no concern to anybody
    model.train()
    if ending == "step":
        monitor.step()
        assert "get_interface" not in vars(registry)
    elif ending == "forward":
        model(input_ids=ids_of(), labels=ids_of()).loss.backward()
        monitor.step()
        assert "get_interface" not in vars(registry)
    found = heads_of(monitor)
    if ending == "close":
        assert found == {}
    else:
        # The second forward belongs to the same step, so the step holds what was seen before the exception.
        assert found[0].keys() <= {"00/heads", "01/heads"}
        assert {tuple(s["entropy_count"]) for s in found[0].values()} == {(B * M,) * 4}


def test_two_monitors_at_once(registry: Any) -> None:
    """Actor and critic: one's forward runs while the other's has been ended by an exception."""
    one, other = model_of("llama"), model_of("qwen2")
    wanted = reference(other, input_ids=ids_of())
    first, second = watch(one), watch(other)

    def fail(*_: Any) -> None:
        raise KeyError("the model's own")

    handle = one.lm_head.register_forward_hook(fail)
    with pytest.raises(KeyError):
        one(input_ids=ids_of())
    handle.remove()
    other(input_ids=ids_of(), labels=ids_of()).loss.backward()
    second.step()
    first.step()
    assert_equal(heads_of(second)[0], wanted)
    heads_of(first)


def test_a_function_registered_by_the_user_is_called_as_before(registry: Any) -> None:
    """Also one that takes another name, such as a kernel from a hub."""
    sdpa = registry["sdpa"]
    calls: list[int] = []

    def mine(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return sdpa(module, *args, **kwargs)

    transformers.AttentionInterface.register("mine", mine)
    transformers.AttentionMaskInterface.register(
        "mine", transformers.masking_utils.ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]
    )
    model, ids = model_of("llama", "mine"), ids_of()
    wanted = reference(model, input_ids=ids)
    monitor = watch(model)
    model(input_ids=ids, labels=ids).loss.backward()
    monitor.step()
    assert_equal(heads_of(monitor)[0], wanted)
    assert len(calls) == 2


# ---------------------------------------------------------------- what it does not see


def reason_of(model: nn.Module, **coordinates: int) -> Any:
    layers = getattr(model, "layers", None) or model.base_model.h
    blocks = tuple(Block(i, f"layers.{i}", layer) for i, layer in enumerate(layers))
    stack = Stack(blocks, len(blocks), (range(len(blocks)),))
    at, cpu = Coordinates(**coordinates), torch.device("cpu")
    return attention.build(ProbeContext(model, stack, Settings(), at, 16, cpu))


def test_models_without_attention_layers_of_transformers_say_so() -> None:
    plain = nn.Module()
    plain.layers = nn.ModuleList(nn.TransformerEncoderLayer(8, 2) for _ in range(2))
    assert "no attention layer" in reason_of(plain)
    upcast = model_of("gpt2", "eager", reorder_and_upcast_attn=True)
    assert "reorder_and_upcast_attn" in reason_of(upcast)
    assert "Ulysses" in reason_of(model_of("gpt2"), world=2, sp_size=2)
    assert isinstance(reason_of(model_of("gpt2")), attention.AttentionProbe)


def test_it_is_switched_off_in_the_settings(registry: Any) -> None:
    model = model_of("llama")
    monitor = watch(model, **{"probes.attention": "off"})
    model(input_ids=ids_of(), labels=ids_of()).loss.backward()
    monitor.step()
    assert "attention" not in monitor.units
    assert heads_of(monitor) == {}
