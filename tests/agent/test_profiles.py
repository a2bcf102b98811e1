"""Profiles: which sites and layers they choose, and that their budgets hold in the bytes that really leave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from every_step import EVERY_STEP
from torch import nn

from infoplane.agent import Monitor, attach
from infoplane.agent.discovery import discover
from infoplane.agent.probes.registry import PROBES
from infoplane.agent.profiles import BUDGETS, Budget, budget_of, evenly, tap_bytes, thinned
from infoplane.agent.settings import SamplingSettings, Settings, TapsSettings
from infoplane.agent.taps import Block, Stack
from infoplane.wire import decode
from infoplane.wire import infoplane_pb2 as pb

LAYERS = 32
ROWS_OF_MANY = 16  # k of 8 data-parallel ranks: 1024 / (8 x 8)
# What comes on top of the taps: what frames records, and the row keys.
OVERHEAD_BYTES = 1_500


def llama(layers: int) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config).train()


@pytest.fixture
def run() -> Iterator[Callable[..., list[pb.Record]]]:
    """Return a function that trains one step under the agent and returns the sketches sent."""
    made: list[Monitor] = []

    def call(model: nn.Module, **settings: Any) -> list[pb.Record]:
        monitor = attach(model, config=EVERY_STEP | settings)
        made.append(monitor)
        ids = torch.randint(0, 64, (4, 16), generator=torch.Generator().manual_seed(1))
        model(input_ids=ids, labels=ids).loss.backward()
        monitor.step()
        monitor.close()
        records = [decode(message.value, pb.Record) for message in monitor.messages]
        return [r for r in records if r.WhichOneof("body") == "sketch"]

    yield call
    for monitor in made:
        monitor.close()


@pytest.mark.parametrize(
    ("profile", "sites", "layers"),
    [
        ("light", {"block"}, 6),
        ("standard", {"block", "act"}, 32),
        ("deep", {"block", "act", "attn", "mlp"}, 32),
    ],
)
def test_budgets_hold_on_32_layers(
    run: Callable[..., list[pb.Record]], profile: str, sites: set[str], layers: int
) -> None:
    # As many rows as each of 8 ranks has, on the one rank there is.
    rows = {"sampling.rows_per_window": ROWS_OF_MANY * 8}
    # Probes have units and budgets of their own.
    probes = {f"probes.{name}": "off" for name in PROBES}
    records = run(llama(LAYERS), profile=profile, **rows, **probes)
    own = [tap for record in records for tap in record.sketch.taps if not tap.duplicate]
    inside = [tap for tap in own if "/" in tap.tap]
    assert {tap.tap.partition("/")[2] for tap in inside} == sites
    assert len({tap.tap.partition("/")[0] for tap in inside}) == layers
    assert {len(record.sketch.row_keys.data) // 8 for record in records} == {ROWS_OF_MANY}

    taps = [tap for record in records for tap in record.sketch.taps]
    kinds = [
        "rows" if tap.duplicate else "act" if tap.tap.endswith("act") else "block" for tap in taps
    ]
    estimate = sum(tap_bytes(kind, ROWS_OF_MANY, 64) for kind in kinds)
    whole = sum(record.ByteSize() for record in records)
    assert 0.85 * estimate < whole < estimate + OVERHEAD_BYTES
    assert whole <= BUDGETS[profile]


def test_bytes_of_a_logits_tap(run: Callable[..., list[pb.Record]]) -> None:
    records = run(llama(2), **{"taps.logits": "on"})
    tap = next(t for r in records for t in r.sketch.taps if t.tap == "logits")
    k = tap.rows.scaled.shape[0]
    assert abs(tap.ByteSize() - tap_bytes("rows", k, 64)) < 60


@pytest.mark.parametrize("total", [1, 2, 3, 7, 32, 80, 126])
def test_layers_are_evenly_spaced_with_both_ends(total: int) -> None:
    for count in range(2, total + 3):
        chosen = evenly(total, count)
        assert len(chosen) == len(set(chosen)) == min(count, total)
        assert chosen == tuple(sorted(chosen))
        assert (chosen[0], chosen[-1]) == (0, total - 1)
        gaps = {after - before for before, after in pairwise(chosen)}
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_no_stage_of_a_pipeline_exceeds_the_budget() -> None:
    stages = (range(30), range(30, 40), range(40, 70), range(70, 80))
    budget = Budget("standard", 200_000, 16, 64)
    layers = thinned(stages, budget, every=[], some=["block", "act"])
    each = tap_bytes("block", 16, 64) + tap_bytes("act", 16, 64)
    spent = [each * sum(layer in stage for layer in layers) for stage in stages]
    # The ends of the model and the inputs that units repeat come on top.
    assert max(spent) <= 200_000
    assert max(spent) > 200_000 - 7 * each, "as many as the budget allows"
    assert (layers[0], layers[-1]) == (0, 79)


def test_every_stage_finds_the_same_layers() -> None:
    stages = (range(20), range(20, 40))
    found = []
    for stage, layers in enumerate(stages):
        blocks = tuple(Block(i, f"h.{i}", nn.Identity()) for i in layers)
        stack = Stack(blocks, 40, stages, stage)
        budget = Budget("light", 60_000)
        found.append(discover(nn.Module(), TapsSettings(), stack, budget=budget))
    assert found[0].layers == found[1].layers
    assert [t.layer for one in found for t in one.taps if t.name.endswith("block")] == list(
        found[0].layers or ()
    )
    # Stage 1 hands on the block before its own only if stage 0 sends that one.
    assert bool(found[1].inputs) == (19 in (found[0].layers or ()))


def test_what_a_profile_leaves_out_is_said() -> None:
    found = discover(llama(4), TapsSettings(), budget=Budget("light", 30_000))
    assert found.layers == (0, 3)
    assert "block in 2 of 4 layers only (00, 03): 30000 bytes a step" in found.missing["layers"]
    assert "not tapped: off in this profile" in found.table()


def test_settings_win_over_profiles() -> None:
    on = discover(llama(4), TapsSettings(mlp="on"), budget=Budget("light", 30_000))
    assert [t.name for t in on.taps if t.name.endswith("mlp")] == [f"0{i}/mlp" for i in range(4)]
    assert on.layers == (0, 3), "what is on everywhere is paid first"
    named = discover(
        llama(4), TapsSettings(block=r"layers\.(1|2)$"), budget=Budget("light", 30_000)
    )
    assert [t.name for t in named.taps if "/" in t.name] == ["01/block", "02/block"]
    off = discover(llama(4), TapsSettings(act="off"), budget=Budget("deep", 10**9))
    assert off.missing["act"] == "off in the settings"


def test_a_profile_means_the_same_layers_on_any_number_of_ranks() -> None:
    settings = Settings(profile="light")
    assert budget_of(settings, 1) == budget_of(settings, 64) == Budget("light", 100_000, 16, 64)


def test_a_budget_of_the_users_own_is_meant_literally() -> None:
    settings = Settings(
        taps=TapsSettings(budget_bytes=250_000), sampling=SamplingSettings(projection_dim=32)
    )
    assert budget_of(settings, 1) == Budget("standard", 250_000, 128, 32)
    assert budget_of(settings, 8) == Budget("standard", 250_000, 16, 32)
