"""Every parallel layout of DeepSpeed with every flavour of recomputation and compilation, on real gloo ranks.

For each cell: losses, parameters and random state are equal bit by bit with the agent on and off; every unit comes from
exactly the ranks that it should come from, once a step; the collector finds every window complete; and the moments of
the first step are those of the model on one rank.

`make test` trains three layouts, `make layouts` (in CI) a subset in which every layout meets every flavour of
recomputation, `make matrix` every cell.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from layout_cells import CI, MOE, WORLDS
from layout_models import BATCH, LAYERS, LENGTH
from layout_ranks import Cell, train
from layout_reading import relative

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]
FIRST = "none:eager:1"
QUICK = ("zero0-1", "pp2-2", "tp2-2")
IS_FULL = os.environ.get("INFOPLANE_LAYOUTS") == "1"


def chosen(names: Iterable[str]) -> list[Any]:
    """Return the names as parameters; what takes long is skipped unless it is asked for."""
    slow = pytest.mark.skipif(not IS_FULL, reason="takes long: make layouts")
    return [name if name in QUICK else pytest.param(name, marks=slow) for name in names]


ALL = tuple(f"{layout}-{world}" for layout, worlds in WORLDS.items() for world in worlds)
LAYOUTS = chosen(ALL)
Run = Callable[[str], Cell]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, require: Any) -> Run:
    """Return a function that trains a layout once and remembers what came of it."""
    from importlib.util import find_spec

    require("deepspeed", find_spec("deepspeed") is not None, "DeepSpeed is not installed")
    kept: dict[str, Cell] = {}

    def start(name: str) -> Cell:
        if name not in kept:
            kept[name] = train(name, tmp_path_factory.mktemp(name), CI[name], 240)
        return kept[name]

    return start


@pytest.mark.parametrize("name", LAYOUTS)
def test_training_is_bit_equal_with_the_agent_on_and_off(run: Run, name: str) -> None:
    cell = run(name)
    for flavour in cell.flavours:
        for rank, result in enumerate(cell.results):
            on, off = result[flavour]["on"], result[flavour]["off"]
            assert len(set(off["losses"])) == len(off["losses"]), "nothing was trained"
            if "inductor" in flavour:
                continue  # a tapped tensor cannot be fused away: reported by `make matrix`
            for what in ("losses", "parameters", "rng"):
                assert on[what] == off[what], (flavour, rank, what)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_unit_comes_once_a_step_from_the_ranks_it_should(run: Run, name: str) -> None:
    cell = run(name)
    for flavour in cell.flavours:
        sent = cell.sent(flavour)
        for unit in sorted(sent.units):
            for step, pairs in sent.senders(unit).items():
                (count,) = {count for _, count in pairs}
                assert {index for index, _ in pairs} == set(range(count)), (flavour, unit, step)
                assert count == expected_senders(cell, unit), (flavour, unit)
        assert sent.promised == {tuple(next(iter(sent.promised)))}, flavour
        assert set(next(iter(sent.promised))) == sent.units, flavour


def expected_senders(cell: Cell, unit: str) -> int:
    """Return how many ranks send a unit: all, one a tensor-parallel group, or those of a stage."""
    if unit in ("agent", "scalars"):
        return cell.world
    pipeline = 2 if cell.layout.startswith("pp") else 1
    if cell.layout == "tp2" and not unit.startswith(("shards/", "attention")):
        return cell.world // 2
    return cell.world // pipeline


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_collector_finds_every_window_complete(run: Run, name: str) -> None:
    cell = run(name)
    for flavour in cell.flavours:
        counts = cell.sent(flavour).completeness()
        assert counts
        for unit, (expected, present) in counts.items():
            assert expected == present > 0, (flavour, unit)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_tap_counts_every_token_of_micro_batch_0_once(run: Run, name: str) -> None:
    cell = run(name)
    for flavour in cell.flavours:
        accumulation = int(flavour.rpartition(":")[2])
        sent = cell.sent(flavour)
        for step in range(3):
            taps = sent.taps(step)
            blocks = [taps[f"0{layer}/block"] for layer in range(LAYERS)]
            assert [tap.message.moments.n for tap in blocks] == [
                BATCH * LENGTH / accumulation
            ] * LAYERS, flavour
            assert {"embed", "final_norm"} <= set(taps), flavour
            assert len(sent.tokens(step)) > 0


@pytest.mark.parametrize(
    "name", chosen(n for n in ALL if n != "zero0-1" and n.split("-")[0] not in MOE)
)
def test_moments_of_the_first_step_are_those_of_one_rank(run: Run, name: str) -> None:
    found, whole = run(name).sent(FIRST).taps(0), run("zero0-1").sent(FIRST).taps(0)
    for tap in [f"0{layer}/block" for layer in range(LAYERS)] + ["embed", "final_norm"]:
        assert relative(found[tap].moments, whole[tap].moments) < 1e-5, tap


@pytest.mark.parametrize("name", chosen(["tp2-2", "pp2-2", "sp2-2"]))
def test_rows_tokens_and_elements_of_one_replica_are_those_of_one_rank(run: Run, name: str) -> None:
    """All of these see one batch on all ranks, so they draw the same rows; a cut sequence draws its part of them."""
    mine, whole = run(name).sent(FIRST), run("zero0-1").sent(FIRST)
    found, reference = mine.taps(0), whole.taps(0)
    for tap in ("00/block", "03/block", "final_norm"):
        common = set(found[tap].rows) & set(reference[tap].rows)
        assert len(common) >= (32 if name == "sp2-2" else 128)
        for key in common:
            assert relative(found[tap].rows[key], reference[tap].rows[key]) < 1e-3
    tokens, expected = mine.tokens(0), whole.tokens(0)
    for key in set(tokens) & set(expected):
        assert tokens[key]["position"] == expected[key]["position"]
        if not expected[key]["valid"]:
            continue  # the last token of a sequence: on one rank the model is not told its target
        assert tokens[key]["target"] == expected[key]["target"]
        assert abs(tokens[key]["entropy"] - expected[key]["entropy"]) < 1e-5
        assert abs(tokens[key]["log_prob"] - expected[key]["log_prob"]) < 1e-5
    if name != "sp2-2":
        # A value at the border of a bucket may fall on either side when sums are taken in another order.
        moved = abs(found["01/act"].elements - reference["01/act"].elements).sum()
        assert found["01/act"].elements.sum() == reference["01/act"].elements.sum()
        assert moved <= 1e-3 * reference["01/act"].elements.sum()


def test_columns_of_two_ranks_add_up_to_the_rows_of_one(run: Run) -> None:
    mine, whole = (run(name).sent(FIRST) for name in ("tp2-2", "zero0-1"))
    assert {f"shards/00-0{LAYERS - 1}"} == {
        unit for unit in mine.units if unit.startswith("shards")
    }
    for layer in range(LAYERS):
        name = f"0{layer}/self_attn.q_proj"
        found, expected = mine.taps(0)[name], whole.taps(0)[name]
        assert not found.message.HasField("moments"), "products have to wait for the sum"
        assert list(found.rows) == list(expected.rows)
        for key, row in found.rows.items():
            assert relative(row, expected.rows[key]) < 1e-3  # rows are float16 in a window


@pytest.mark.skipif(not IS_FULL, reason="takes long: make layouts")
def test_a_mixture_says_the_same_however_its_experts_are_spread(run: Run) -> None:
    one, two = (run(name).sent(FIRST).taps(0) for name in ("ep1-2", "ep2-2"))
    for tap in [f"0{layer}/block" for layer in range(LAYERS)] + ["embed", "final_norm"]:
        assert relative(two[tap].moments, one[tap].moments) < 1e-5, tap
    assert [r[FIRST]["on"]["losses"][0] for r in run("ep1-2").results] == [
        r[FIRST]["on"]["losses"][0] for r in run("ep2-2").results
    ]
