from __future__ import annotations

from dataclasses import replace

from torch import nn

from infoplane.agent.taps import Block, Discovery, Stack, Tap
from infoplane.agent.units import expected_names, group


def stack_of(layers: int) -> Stack:
    blocks = tuple(Block(i, str(i), nn.Identity()) for i in range(layers))
    return Stack(blocks, layers, (range(layers),))


def discovery(layers: int, *, sites: tuple[str, ...] = ("block", "act")) -> Discovery:
    module = nn.Identity()
    taps = [Tap("embed", module, "block", True, -1)]
    taps += [Tap(f"{i:02}/{s}", module, "block", False, i) for i in range(layers) for s in sites]
    taps.append(Tap("final_norm", module, "block", False, layers))
    return Discovery(stack_of(layers), taps=taps)


def test_groups_carry_their_input_so_that_neighbours_meet() -> None:
    units = group(discovery(20), 8)
    assert [unit.name for unit in units] == ["layers/00-07", "layers/08-15", "layers/16-19"]
    assert [[tap.name for tap in unit.duplicates] for unit in units] == [
        [],
        ["07/block"],
        ["15/block"],
    ]
    own = [[tap.name for tap in unit.taps] for unit in units]
    assert "embed" in own[0]
    assert "final_norm" in own[2]
    assert sorted(name for names in own for name in names) == sorted(
        tap.name for tap in discovery(20).taps
    )


def test_a_duplicate_that_is_not_tapped_is_not_promised() -> None:
    assert all(unit.duplicates == () for unit in group(discovery(4, sites=("act",)), 2))


def test_groups_without_taps_are_left_out() -> None:
    found = Discovery(stack_of(4), taps=discovery(2).taps[1:2])
    assert [unit.name for unit in group(found, 2)] == ["layers/00-01"]
    assert group(Discovery(), 8) == ()


def test_a_unit_carries_the_last_block_that_is_tapped_before_it() -> None:
    found = discovery(24, sites=("block",))
    found.taps = [tap for tap in found.taps if tap.layer in (-1, 0, 5, 17, 23)]
    units = group(found, 8)
    assert [unit.name for unit in units] == ["layers/00-07", "layers/16-23"]
    assert [tap.name for tap in units[1].duplicates] == ["05/block"]


def test_collections_have_units_of_their_own() -> None:
    found = discovery(10, sites=("block", "act"))
    found.taps = [
        replace(tap, collection="slow", level=7) if tap.name.endswith("act") else tap
        for tap in found.taps
    ]
    units = {unit.name: unit for unit in group(found, 8)}
    assert list(units) == ["layers/00-07", "slow/00-07", "layers/08-09", "slow/08-09"]
    assert [units[name].level for name in units] == [0, 7, 0, 7]
    assert units["slow/08-09"].duplicates == ()
    assert [tap.name for tap in units["slow/08-09"].taps] == ["08/act", "09/act"]


def test_units_too_rare_for_a_window_are_not_expected() -> None:
    found = discovery(4, sites=("block", "act"))
    found.taps = [
        replace(tap, collection="slow", level=7) if tap.name.endswith("act") else tap
        for tap in found.taps
    ]
    assert expected_names(found, 8, span=128) == ("layers/00-03", "slow/00-03")
    assert expected_names(found, 8, span=127) == ("layers/00-03",)


def test_a_stage_expects_of_others_what_their_layers_have() -> None:
    stages = (range(16), range(16, 32))
    blocks = tuple(Block(i, str(i), nn.Identity()) for i in stages[0])
    found = Discovery(Stack(blocks, 32, stages, 0), layers=(0, 31))
    found.taps = [Tap("00/block", blocks[0].module, "block", False, 0)]
    assert expected_names(found, 8, span=128) == ("layers/00-07", "layers/24-31")
    found.taps.append(Tap("05/mlp", blocks[5].module, "block", False, 5, collection="own"))
    assert expected_names(found, 8, span=128) == (
        "layers/00-07", "own/00-07", "own/08-15", "own/16-23", "layers/24-31", "own/24-31",
    )  # fmt: skip
