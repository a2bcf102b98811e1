"""Discovery on models built like the common families, by their own module names."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from torch import nn

from infoplane.agent.discovery import discover
from infoplane.agent.settings import TapsSettings
from infoplane.agent.taps import Discovery


def tree(**children: nn.Module) -> nn.Module:
    module = nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module


def gpt2(layers: int = 3) -> nn.Module:
    def block() -> nn.Module:
        mlp = tree(c_fc=nn.Linear(4, 8), act=nn.GELU(), c_proj=nn.Linear(8, 4))
        attn = tree(c_attn=nn.Linear(4, 12), c_proj=nn.Linear(4, 4))
        return tree(ln_1=nn.LayerNorm(4), attn=attn, ln_2=nn.LayerNorm(4), mlp=mlp)

    blocks = nn.ModuleList(block() for _ in range(layers))
    body = tree(wte=nn.Embedding(9, 4), h=blocks, ln_f=nn.LayerNorm(4))
    return tree(transformer=body, lm_head=nn.Linear(4, 9))


def llama(layers: int = 3) -> nn.Module:
    class Activation(nn.Module):
        """Not a class of torch: found by its name."""

    def block() -> nn.Module:
        mlp = tree(gate_proj=nn.Linear(4, 8), down_proj=nn.Linear(8, 4), act_fn=Activation())
        return tree(
            self_attn=tree(q_norm=nn.LayerNorm(4)), mlp=mlp, input_layernorm=nn.LayerNorm(4)
        )

    blocks = nn.ModuleList(block() for _ in range(layers))
    return tree(model=tree(embed_tokens=nn.Embedding(9, 4), layers=blocks, norm=nn.LayerNorm(4)))


def mixture(layers: int = 3) -> nn.Module:
    def block() -> nn.Module:
        experts = nn.ModuleList(tree(w=nn.Linear(4, 4), act=nn.SiLU()) for _ in range(2 * layers))
        return tree(experts=experts)

    return tree(embed_norm=nn.LayerNorm(4), layers=nn.ModuleList(block() for _ in range(layers)))


def neox(layers: int = 3) -> nn.Module:
    blocks = nn.ModuleList(tree(mlp=tree(act=nn.GELU(), x=nn.Linear(4, 4))) for _ in range(layers))
    return tree(gpt_neox=tree(layers=blocks, final_layer_norm=nn.LayerNorm(4)))


OTHERS = {"attn", "mlp", "norm", "logits"}  # what the default profile leaves out


def names(found: Discovery) -> list[str]:
    return sorted(tap.name for tap in found.taps)


@pytest.mark.parametrize(
    ("make", "norm"),
    [(gpt2, "transformer.ln_f"), (llama, "model.norm"), (neox, "gpt_neox.final_layer_norm")],
)
def test_families_are_tapped_completely(make: Callable[[], nn.Module], norm: str) -> None:
    model = make()
    found = discover(model, TapsSettings())
    layers = [f"0{i}/{site}" for i in range(3) for site in ("act", "block")]
    assert names(found) == sorted([*layers, "embed", "final_norm"])
    assert found.missing == dict.fromkeys(OTHERS, "off in this profile")
    final = next(tap for tap in found.taps if tap.name == "final_norm")
    assert final.module is model.get_submodule(norm)


def test_experts_inside_blocks_are_not_taken_for_layers() -> None:
    found = discover(mixture(), TapsSettings())
    assert found.stack.total == 3
    assert found.missing.keys() == {"act", "final_norm"} | OTHERS
    assert "3 of 3 blocks" in found.missing["act"], "an expert does not see every token"


def test_layers_are_padded_so_that_they_sort() -> None:
    found = discover(gpt2(101), TapsSettings())
    blocks = [tap.name for tap in found.taps if tap.name.endswith("/block")]
    assert blocks[0] == "000/block"
    assert blocks == sorted(blocks)


def test_a_shared_activation_is_tapped_in_its_first_block_only() -> None:
    act = nn.GELU()
    blocks = nn.ModuleList(tree(up=nn.Linear(4, 4), act=act) for _ in range(2))
    found = discover(tree(blocks=blocks), TapsSettings())
    assert "00/act" in names(found)
    assert "01/act" not in names(found)
    assert "1 of 2 blocks" in found.missing["act"]


def test_a_model_without_blocks_says_so() -> None:
    found = discover(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), TapsSettings())
    assert found.taps == []
    assert "no ModuleList" in found.missing["block"]
    assert "not tapped" in found.table()


def test_a_sequential_of_layers_counts_as_blocks() -> None:
    body = nn.Sequential(*(tree(a=nn.Linear(2, 2), act=nn.ReLU()) for _ in range(4)))
    assert discover(tree(body=body), TapsSettings()).stack.total == 4


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"block": "off"}, {"embed", "final_norm", "00/act", "01/act", "02/act"}),
        ({"act": "off", "block": r"h\.(0|2)$"}, {"embed", "final_norm", "00/block", "02/block"}),
        ({"act": "off", "block": "off", "embed": "off", "final_norm": "off"}, set()),
        ({"act": "off", "block": "off", "embed": "off", "final_norm": "lm_head"}, {"final_norm"}),
    ],
)
def test_settings_choose(choice: Mapping[str, str], expected: set[str]) -> None:
    assert set(names(discover(gpt2(), TapsSettings(**choice)))) == expected


def test_the_table_counts_and_explains() -> None:
    table = discover(gpt2(), TapsSettings(act="off")).table()
    assert "blocks     3, named as in GPT-2" in table
    assert "block      3 tapped" in table
    assert "act        not tapped: off in the settings" in table
    assert "attn       not tapped: off in this profile" in table


def test_a_setting_that_finds_nothing_says_so() -> None:
    found = discover(gpt2(), TapsSettings(attn="nowhere", modules="on"))
    assert found.missing["attn"] == "no module matches the setting"
    assert found.missing["modules"] == "needs a regular expression"


def test_sites_are_found_by_their_roles() -> None:
    model = gpt2()
    found = discover(model, TapsSettings(attn="on", mlp="on", norm="on", logits="on"))
    modules = {tap.name: tap.module for tap in found.taps}
    assert modules["01/attn"] is model.get_submodule("transformer.h.1.attn.c_proj")
    assert modules["01/mlp"] is model.get_submodule("transformer.h.1.mlp.c_proj")
    assert modules["01/norm1"] is model.get_submodule("transformer.h.1.ln_1")
    assert modules["01/norm2"] is model.get_submodule("transformer.h.1.ln_2")
    assert modules["logits"] is model.lm_head
    assert next(tap for tap in found.taps if tap.name == "logits").kind == "rows"
    assert found.missing == {}


def test_any_module_is_tapped_by_its_name() -> None:
    model = gpt2()
    found = discover(model, TapsSettings(modules=r"c_attn$|wte$|lm_head$", block="off", act="off"))
    by_name = {tap.name: tap for tap in found.taps}
    assert set(by_name) == {
        "00/attn.c_attn", "01/attn.c_attn", "02/attn.c_attn", "transformer.wte", "lm_head", "embed", "final_norm",
    }  # fmt: skip
    assert by_name["02/attn.c_attn"].module is model.get_submodule("transformer.h.2.attn.c_attn")
    assert (by_name["transformer.wte"].layer, by_name["lm_head"].layer) == (-1, 3)


def test_columns_of_a_tensor_parallel_rank_are_marked() -> None:
    class LinearLayer(nn.Linear):
        """Named as DeepSpeed's column-parallel layer."""

    class LinearAllreduce(nn.Linear):
        """Named as DeepSpeed's row-parallel layer: its output is whole."""

    def block() -> nn.Module:
        mlp = tree(gate_proj=LinearLayer(4, 4), act_fn=nn.SiLU(), down_proj=LinearAllreduce(4, 4))
        return tree(self_attn=tree(q_proj=LinearLayer(4, 2), o_proj=LinearAllreduce(2, 4)), mlp=mlp)

    model = tree(layers=nn.ModuleList(block() for _ in range(2)), lm_head=LinearLayer(4, 8))
    settings = TapsSettings(attn="on", mlp="on", logits="on", modules="q_proj|gate_proj")
    for size in (1, 2):
        found = discover(model, settings, tp_size=size)
        sharded = {tap.name.partition("/")[2] or tap.name for tap in found.taps if tap.is_sharded}
        expected = {"act", "self_attn.q_proj", "mlp.gate_proj", "logits"} if size == 2 else set()
        assert sharded == expected
