from __future__ import annotations

from torch import nn

from infoplane.agent.taps import Discovery, Tap
from infoplane.agent.units import group


def discovery(layers: int, *, sites: tuple[str, ...] = ("block", "act")) -> Discovery:
    module = nn.Identity()
    taps = [Tap("embed", module, "block", True, -1)]
    taps += [Tap(f"{i:02}/{s}", module, "block", False, i) for i in range(layers) for s in sites]
    taps.append(Tap("final_norm", module, "block", False, layers))
    return Discovery(num_layers=layers, taps=taps)


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
    found = Discovery(num_layers=4, taps=discovery(2).taps[1:2])
    assert [unit.name for unit in group(found, 2)] == ["layers/00-01"]
    assert group(Discovery(), 8) == ()
