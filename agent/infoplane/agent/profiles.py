"""Profiles: which sites are tapped where a setting says `auto`, in how many layers, and what a tap costs in bytes.

    auto   as the profile says, in as many layers as its byte budget allows: evenly spaced, first and last always
    on     in every layer
    regex  in the layers whose modules it matches
    off    nowhere

Every rank comes to the same layers by itself: they follow from the settings and the number of layers alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from infoplane.agent.sampling import rows_per_step
from infoplane.agent.settings import Settings
from infoplane.estimators.state import LogBuckets

# What `auto` switches on, by profile. `norm`, `logits` and `modules` are on where somebody asks for them only.
AUTO_SITES: Final[Mapping[str, frozenset[str]]] = {
    "light": frozenset({"block", "embed", "final_norm"}),
    "standard": frozenset({"block", "act", "embed", "final_norm"}),
    "deep": frozenset({"block", "act", "attn", "mlp", "embed", "final_norm"}),
}
# Bytes of all taps, per rank and sampled step.
BUDGETS: Final[Mapping[str, int]] = {"light": 100_000, "standard": 500_000, "deep": 2_500_000}
# Pieces of the batch for which the profiles' budgets are meant: fewer ranks send more rows each.
PIECES: Final = 8
_TAPS_PER_LAYER: Final = {"block": 1, "act": 1, "attn": 1, "mlp": 1, "norm": 2}
_FRAME_BYTES: Final = 110  # of names, shapes and lengths of a tap with moments, histogram and rows
_SMALL_FRAME_BYTES: Final = 50  # of a tap with one array
# Empty buckets at either end of a histogram are not sent: norms of one tap lie close together, and elements rarely
# above 2^10, so about 7 of 10 buckets are left.
_NORM_BYTES: Final = 160
_OCCUPIED: Final = 0.7
_SIGNED: Final = LogBuckets(signed=True)


@dataclass(frozen=True, slots=True)
class Budget:
    """What decides about sites and layers.

    Attributes:
        profile: light, standard or deep.
        nbytes: bytes that all taps may have, per rank and sampled step.
        rows: k, sampled rows of a step that `nbytes` is meant for.
        dim: r, columns of the projection.
        group: layers in a unit; each unit repeats the output of the block before it.
    """

    profile: str = "standard"
    nbytes: int = BUDGETS["standard"]
    rows: int = 16
    dim: int = 64
    group: int = 8


def budget_of(settings: Settings, pieces: int) -> Budget:
    """Return the budget in force; `pieces` of the batch are those of data and sequence parallelism.

    The budget of a profile is judged by the rows of a job of 8 pieces or more, so that a profile means the same
    layers on one rank as on a thousand; a budget that the user named is meant literally.
    """
    own, rule = settings.taps.budget_bytes, settings.sampling
    judged = pieces if own else max(pieces, PIECES)
    rows = rows_per_step(rule.rows_per_window, judged, rule.width)
    nbytes = own or BUDGETS[settings.profile]
    return Budget(settings.profile, nbytes, rows, rule.projection_dim, settings.units.layers)


def tap_bytes(kind: str, rows: int, dim: int, *, is_sharded: bool = False) -> int:
    """Return about how many bytes one tap has in a record.

    block: 2 r (r + 3) of moments, k (2 r + 4) of rows, a histogram of norms; act: a histogram of elements;
    rows: rows alone; a sharded tap: 4 k r of partial rows.
    """
    if kind == "act":
        return int(4 * _OCCUPIED * _SIGNED.size) + _SMALL_FRAME_BYTES
    if is_sharded:
        return 4 * rows * dim + _SMALL_FRAME_BYTES
    packed = rows * (2 * dim + 4)
    if kind == "rows":
        return packed + _SMALL_FRAME_BYTES
    return 2 * dim * (dim + 3) + packed + _NORM_BYTES + _FRAME_BYTES


def layer_bytes(sites: Sequence[str], budget: Budget) -> int:
    """Return the bytes of the taps of one layer, from settings alone: equal on all pipeline stages."""
    return sum(
        _TAPS_PER_LAYER[site] * tap_bytes("act" if site == "act" else "block", budget.rows, budget.dim)
        for site in sites
        if site in _TAPS_PER_LAYER
    )  # fmt: skip


def thinned(
    stages: Sequence[range], budget: Budget, every: Sequence[str], some: Sequence[str]
) -> tuple[int, ...]:
    """Return the layers that get the sites `some`, such that no pipeline stage exceeds the budget.

    Args:
        stages: layers of every stage.
        budget: what may be spent.
        every: sites that every layer has whatever they cost.
        some: sites that are thinned.
    """
    total = stages[-1].stop
    each = layer_bytes(some, budget)
    if not each:
        return tuple(range(total))
    fixed = [layer_bytes(every, budget) * len(stage) for stage in stages]
    for count in range(total, 2, -1):
        chosen = evenly(total, count)
        costs = [
            each * sum(layer in stage for layer in chosen) + _around(chosen, stage, total, budget)
            for stage in stages
        ]
        if all(a + b <= budget.nbytes for a, b in zip(fixed, costs, strict=True)):
            return chosen
    return evenly(total, 2)


def _around(chosen: Sequence[int], stage: range, total: int, budget: Budget) -> int:
    """Return the bytes of what a stage sends besides its layers' taps: the ends of the model, and repeated inputs."""
    ends = (stage.start == 0) + (stage.stop == total)
    groups = [range(start, start + budget.group) for start in stage[:: budget.group]]
    repeated = sum(group.start > 0 and any(layer in group for layer in chosen) for group in groups)
    block, rows = (tap_bytes(kind, budget.rows, budget.dim) for kind in ("block", "rows"))
    return ends * block + repeated * rows


def evenly(total: int, count: int) -> tuple[int, ...]:
    """Return `count` (2 or more) of the numbers 0 .. total - 1, evenly spaced, with the first and the last."""
    if count >= total:
        return tuple(range(total))
    gaps = count - 1
    return tuple((2 * place * (total - 1) + gaps) // (2 * gaps) for place in range(count))
