from __future__ import annotations

import itertools

import pytest
from torch import nn

from infoplane.agent.identity import Coordinates
from infoplane.agent.roles import Role, Spread, role
from infoplane.agent.roster import enroll
from infoplane.agent.settings import Settings
from infoplane.agent.taps import Block, Discovery, Stack, Tap


def every_rank(dp: int, tp: int, pp: int, sp: int) -> list[Coordinates]:
    """Return the coordinates of all ranks of a layout."""
    sizes = {"dp_size": dp, "tp_size": tp, "pp_size": pp, "sp_size": sp, "world": dp * tp * pp * sp}
    places = itertools.product(range(pp), range(dp), range(sp), range(tp))
    return [
        Coordinates(rank=rank, pp=p, dp=d, sp=s, tp=t, **sizes)
        for rank, (p, d, s, t) in enumerate(places)
    ]


@pytest.mark.parametrize("layout", [(1, 1, 1, 1), (4, 1, 1, 1), (2, 2, 1, 1), (2, 2, 2, 2)])
@pytest.mark.parametrize("spread", Spread)
def test_senders_of_a_unit_are_dense_and_know_their_number(
    layout: tuple[int, int, int, int], spread: Spread
) -> None:
    stages: dict[int, list[Role]] = {}
    for at in every_rank(*layout):
        found = role(at, spread)
        if found is not None:
            stages.setdefault(0 if spread is Spread.RANKS else at.pp, []).append(found)
    for roles in stages.values():
        assert sorted(found.index for found in roles) == list(range(len(roles)))
        assert {found.count for found in roles} == {len(roles)}


def stage_of(number: int, stages: int = 2, layers: int = 8) -> Discovery:
    """Return what is found on one of the stages of a pipeline."""
    ranges = tuple(range(s * layers // stages, (s + 1) * layers // stages) for s in range(stages))
    blocks = tuple(Block(i, str(i), nn.Identity()) for i in ranges[number])
    taps = [Tap(f"{b.index:02}/block", b.module, "block", False, b.index) for b in blocks]
    return Discovery(Stack(blocks, layers, ranges, number), taps)


def test_every_stage_of_a_pipeline_promises_the_same_units_and_sends_its_own() -> None:
    ranks = every_rank(2, 1, 2, 1)
    rosters = [enroll(stage_of(at.pp), [], Settings(), at) for at in ranks]
    assert len({roster.names for roster in rosters}) == 1
    sent = [set(roster.roles) for roster in rosters]
    assert sent[0] == sent[1] == {"layers/00-03", "scalars", "agent"}
    assert sent[2] == sent[3] == {"layers/04-07", "tokens", "scalars", "agent"}
    assert set.union(*sent) == set(rosters[0].names)


def test_what_ranks_of_a_tensor_parallel_group_hold_alike_is_sent_once() -> None:
    ranks = every_rank(2, 2, 1, 1)
    rosters = [enroll(stage_of(0, stages=1), [], Settings(), at) for at in ranks]
    senders = [rank for rank, roster in enumerate(rosters) if "layers/00-07" in roster.roles]
    assert senders == [0, 2]
    assert [rosters[rank].roles["layers/00-07"] for rank in senders] == [Role(0, 2), Role(1, 2)]
    assert all({"scalars", "agent"} <= set(roster.roles) for roster in rosters)
