"""Roles: which of the ranks send a unit, and under which number."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from infoplane.agent.identity import Coordinates


class Spread(Enum):
    """Who sends a unit.

    REPLICAS: one rank for each piece of the batch, that is (data, sequence) coordinate, of one pipeline stage: what
        all ranks of a tensor-parallel group hold alike comes from the first of them.
    SHARDS: every rank of these groups: each holds columns of its own.
    RANKS: every rank of the job.
    """

    REPLICAS = "replicas"
    SHARDS = "shards"
    RANKS = "ranks"


@dataclass(frozen=True, slots=True)
class Role:
    """How this rank sends one unit.

    Attributes:
        index: dense number among the unit's senders.
        count: number of senders.
        level: the unit is sampled every 2^level-th step at most, whatever the rank's own level is.
    """

    index: int
    count: int
    level: int = 0


def role(at: Coordinates, spread: Spread, level: int = 0) -> Role | None:
    """Return the role of the rank at `at`; None if another rank speaks for it."""
    replica, replicas = at.dp * at.sp_size + at.sp, at.dp_size * at.sp_size
    if spread is Spread.RANKS:
        return Role(at.rank, at.world, level)
    if spread is Spread.SHARDS:
        return Role(replica * at.tp_size + at.tp, replicas * at.tp_size, level)
    return Role(replica, replicas, level) if at.tp == 0 else None
