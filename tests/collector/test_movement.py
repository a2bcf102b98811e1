"""Movement of all taps together is that of every tap alone, whatever becomes of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infoplane.collector.metrics import Context
from infoplane.collector.metrics.geometry_metrics import movement
from infoplane.estimators import Estimate
from infoplane.estimators.state import Moments

Arrays = dict[str, NDArray[Any]]
GOOD = 3


def window(number: int) -> list[Moments]:
    """Return the moments of taps: good ones of two widths, one that goes bad, one that is dead."""
    generator = np.random.default_rng(number)
    rows = [generator.normal(size=(300, d)) * 1.1**number for d in (6, 6, 9)]
    sick = rows[0] * (np.nan if number == 2 else 1.0)
    return [Moments.of_rows(x) for x in (*rows, sick, np.zeros((300, 6)))]


def move(
    windows: Sequence[Sequence[Moments]],
) -> tuple[list[list[Mapping[str, Estimate]]], list[Arrays]]:
    """Return what `movement` finds in every window, and the memory at the end."""
    memory: list[Arrays] = [{} for _ in windows[0]]
    found = [
        list(movement(taps, Context("cpu", [0] * len(taps), memory=memory))) for taps in windows
    ]
    return found, memory


def test_taps_together_are_taps_alone() -> None:
    windows = [window(number) for number in range(5)]
    together, memory = move(windows)
    for tap in range(len(windows[0])):
        alone, own = move([[taps[tap]] for taps in windows])
        for found, (wanted,) in zip(together, alone, strict=True):
            assert found[tap].keys() == wanted.keys()
            for name, one in wanted.items():
                assert found[tap][name].undefined == one.undefined
                assert found[tap][name].value == pytest.approx(one.value, rel=1e-12, nan_ok=True)
        for name, array in own[0].items():
            np.testing.assert_allclose(memory[tap][name], array, rtol=1e-12)


def test_a_bad_tap_says_so_and_goes_on() -> None:
    together, memory = move([window(number) for number in range(5)])
    steps = [[one["representation_fisher_step"].undefined for one in taps] for taps in together]
    assert [row[:GOOD] for row in steps] == [["history"] * GOOD] + [[""] * GOOD] * 4
    assert [row[GOOD] for row in steps] == ["history", "", "nan", "", ""]
    assert [row[GOOD + 1] for row in steps] == ["history"] + ["singular"] * 4
    assert [int(one["path"][1]) for one in memory] == [4, 4, 4, 3, 0]


def test_a_tap_that_comes_later_starts_its_own_path() -> None:
    memory: list[Arrays] = [{}]
    movement(window(0)[:1], Context("cpu", [0], memory=memory))
    memory.append({})
    first, second = movement(window(1)[:2], Context("cpu", [0, 0], memory=memory))
    assert first["fisher_path_length"].defined
    assert second["fisher_path_length"].undefined == "history"
    assert [int(one["path"][1]) for one in memory] == [1, 0]
