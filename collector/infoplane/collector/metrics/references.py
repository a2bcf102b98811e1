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


@dataclass(frozen=True, slots=True)
class Prepared:
    """Inputs of equal shape that are ready to be computed together.

    Attributes:
        places: which inputs.
        x: rows (t, n, d) on the device.
        references: what their first windows fixed, one array each.
        seeds: one each.
    """

    places: list[int]
    x: Tensor
    references: list[NDArray[np.float64]]
    seeds: list[int]


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
    rows: Sequence[NDArray[Any]],
    context: Context,
    reference: Callable[[Tensor], Tensor],
    most: int,
) -> list[Prepared]:
    """Cut rows to the n of their series, scale them to unit root mean square, and find or fix their references.

    Scaling makes a reference last: what a transformer's next layer reads is a normalised row, and a residual stream
    grows many times over in training.

    Args:
        rows: one array (n, d) an input. Inputs with too few rows are left out of the answer.
        context: with the memory that holds the references.
        reference: gives (t,) or (t, m) numbers for rows (t, n, d): a bandwidth.
        most: rows a series takes at most.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for place, array in enumerate(rows):
        n = held_rows(len(array), most, context.memory[place])
        if n:
            groups.setdefault((n, array.shape[1]), []).append(place)
    prepared = []
    for (n, _), places in groups.items():
        x = unit_rows(torch.from_numpy(np.stack([rows[p][:n] for p in places])).to(context.device))
        fresh = [i for i, p in enumerate(places) if _REFERENCE not in context.memory[p]]
        if fresh:
            for i, value in zip(fresh, reference(x[fresh]).double().cpu().numpy(), strict=True):
                if np.isfinite(value).all() and (value > 0).all():
                    context.memory[places[i]][_REFERENCE] = np.atleast_1d(value)
        held = [context.memory[p].get(_REFERENCE, np.ones(1)) for p in places]
        prepared.append(Prepared(places, x, held, [context.seeds[p] for p in places]))
    return prepared


def unit_rows(x: Tensor) -> Tensor:
    """Return rows x (..., d) divided by their root mean square; rows of zeros stay."""
    scale = x.square().mean(-1, keepdim=True).sqrt()
    return torch.where(scale > 0, x / scale, x)
