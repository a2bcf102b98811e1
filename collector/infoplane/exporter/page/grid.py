"""Curves as a grid of rows and windows, and how far each cell moved from its own past."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from infoplane.exporter.page.charts import Curves

PAST_WINDOWS: Final = 12
_FEWEST: Final = 6
_MAD_TO_SD: Final = 1.4826
_FLOOR: Final = 0.002  # of the value: below this a change is noise of the arithmetic
_TINY: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Grid:
    """Values `(rows, columns)`, NaN where there is none; a column is one window, named by its last step."""

    rows: tuple[str, ...]
    windows: tuple[int, ...]
    steps: tuple[int, ...]
    values: NDArray[np.float64]
    num_saturated: int  # of the newest column

    def column_of(self, step: int) -> int:
        """Return the first column whose window ends at or after `step`; the last one if none does."""
        return min(int(np.searchsorted(self.steps, step)), max(len(self.steps) - 1, 0))


def grid_of(curves: Curves) -> Grid:
    """Lay out curves; windows that are missing leave empty columns, windows between cadences do not."""
    steps = {point.window: point.last_step for points in curves.values() for point in points}
    windows = _columns(sorted(steps))
    place = {window: column for column, window in enumerate(windows)}
    values = np.full((len(curves), len(windows)), np.nan)
    num_saturated = 0
    for row, points in enumerate(curves.values()):
        for point in points:
            if not point.undefined:
                values[row, place[point.window]] = point.value
        num_saturated += bool(points and points[-1].saturated)
    ends = _fill(windows, steps)
    return Grid(tuple(curves), tuple(windows), tuple(ends), values, num_saturated)


def _columns(found: list[int]) -> list[int]:
    if len(found) < 2:
        return found
    stride = Counter(b - a for a, b in pairwise(found)).most_common(1)[0][0]
    return sorted({*found, *range(found[0], found[-1], stride)})


def _fill(windows: list[int], steps: dict[int, int]) -> list[int]:
    if not windows:
        return []
    known = sorted(steps)
    ends = np.interp(windows, known, [steps[window] for window in known])
    return [int(end) for end in ends]


def changes_of(grid: Grid) -> NDArray[np.float64]:
    """Return `(rows, columns)`: robust z of every cell against the same row's `PAST_WINDOWS` columns before it.

    NaN where a row has too little past. The scale is the median absolute deviation, so one bad window does not
    hide the next.
    """
    if not grid.values.size:
        return grid.values
    padded = np.pad(grid.values, ((0, 0), (PAST_WINDOWS, 0)), constant_values=np.nan)[:, :-1]
    past = np.lib.stride_tricks.sliding_window_view(padded, PAST_WINDOWS, axis=1)
    center = _median(past)
    spread = _MAD_TO_SD * _median(np.abs(past - center[..., None]))
    spread = np.maximum(spread, _FLOOR * np.abs(center) + _TINY)
    enough = np.isfinite(past).sum(axis=-1) >= _FEWEST
    return np.where(enough, (grid.values - center) / spread, np.nan)


def _median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over the last axis without NaN; NaN where there is nothing else. 20 times nanmedian's speed."""
    ordered = np.sort(values, axis=-1)  # NaN goes last
    count = np.isfinite(values).sum(axis=-1)
    low = np.maximum(count - 1, 0) // 2
    middle = np.stack([low, np.minimum(count // 2, np.maximum(count - 1, 0))], axis=-1)
    return np.asarray(np.take_along_axis(ordered, middle, axis=-1).mean(axis=-1))
