"""References that a metric keeps for the life of its series: the number of rows, and bandwidths.

Kernel metrics depend on n and on the scale of the kernel. The first window that has enough rows fixes both; later
windows are cut to that n, or undefined if they have fewer rows. What was fixed travels with every value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infoplane.collector.metrics.metric import Context

MIN_ROWS: Final = 64
_ROWS, _REFERENCE = "rows", "reference"


Block = NDArray[Any]
Reference = Callable[[tuple[Tensor, ...]], Tensor]


@dataclass(frozen=True, slots=True)
class Prepared:
    """Inputs of equal shape that are ready to be computed together.

    Attributes:
        places: which inputs.
        blocks: rows (t, n, d) on the device, one tensor for x, or two for x and y.
        references: what their first windows fixed, (m,) each.
        seeds: one each.
    """

    places: list[int]
    blocks: tuple[Tensor, ...]
    references: list[NDArray[np.float64]]
    seeds: list[int]

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.blocks[0].shape[1])


def held_rows(available: int, most: int, memory: dict[str, NDArray[Any]]) -> int:
    """Return how many rows the series takes: a power of two, fixed by its first window; 0 if there are too few."""
    if _ROWS not in memory:
        n = min(available, most)
        if n < MIN_ROWS:
            return 0
        memory[_ROWS] = np.array([1 << (n.bit_length() - 1)], dtype=np.int64)
    n = int(memory[_ROWS][0])
    return n if available >= n else 0


def prepare(
    inputs: Sequence[tuple[Block, ...]],
    context: Context,
    reference: Reference | None,
    most: int,
) -> list[Prepared]:
    """Cut rows to the n of their series, scale them to unit root mean square, and find or fix their references.

    Scaling makes a reference last: what a transformer's next layer reads is a normalised row, and a residual stream
    grows many times over in training.

    Args:
        inputs: one array (n, d) an input, or two of equal n. Inputs with too few rows are left out of the answer.
        context: with the memory that holds the references.
        reference: gives (t,) or (t, m) numbers for the blocks (t, n, d): bandwidths. None: there is nothing to fix.
        most: rows a series takes at most.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, arrays in enumerate(inputs):
        n = held_rows(len(arrays[0]), most, context.memory[place])
        if n:
            groups.setdefault((n, *(a.shape[1] for a in arrays)), []).append(place)
    prepared = []
    for (n, *widths), places in groups.items():
        blocks = tuple(
            unit_rows(_stacked([inputs[p][side][:n] for p in places], context.device))
            for side in range(len(widths))
        )
        if reference is not None:
            _fix(blocks, [context.memory[p] for p in places], reference)
        held = [context.memory[p].get(_REFERENCE, np.ones(1)) for p in places]
        prepared.append(Prepared(places, blocks, held, [context.seeds[p] for p in places]))
    return prepared


def _fix(
    blocks: tuple[Tensor, ...], memory: Sequence[dict[str, Block]], reference: Reference
) -> None:
    """Fix the references of those that have none; of rows that give no usable number a later window will."""
    fresh = [i for i, one in enumerate(memory) if _REFERENCE not in one]
    if not fresh:
        return
    found = reference(tuple(block[fresh] for block in blocks)).double().cpu().numpy()
    for i, value in zip(fresh, found, strict=True):
        if np.isfinite(value).all() and (value > 0).all():
            memory[i][_REFERENCE] = np.atleast_1d(value)


def _stacked(arrays: list[Block], device: str) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).to(device)


def unit_rows(x: Tensor) -> Tensor:
    """Return rows x (..., d) divided by their root mean square; rows of zeros stay."""
    scale = x.square().mean(-1, keepdim=True).sqrt()
    return torch.where(scale > 0, x / scale, x)
