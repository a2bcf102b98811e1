"""Paths: length, straightness, what standing still looks like, restart."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from infoplane.estimators import Estimate, FisherPath
from infoplane.estimators.state import Moments

D, N = 32, 4096


def window(generator: np.random.Generator, scale: float, n: int = N, d: int = D) -> Moments:
    """Return moments of n independent normal rows of this variance, without drawing the rows."""
    root = np.tril(generator.normal(size=(d, d)), -1)
    root += np.diag(np.sqrt(generator.chisquare(n - 1 - np.arange(d))))
    return Moments(float(n), np.zeros(d), scale * root @ root.T)


def follow(windows: list[Moments]) -> FisherPath:
    """Return the path through all windows."""
    path = FisherPath.start(windows[0])
    for one in windows[1:]:
        path = path.advance(one)
    return path


def walk(seed: int, logs: list[float], n: int = N, d: int = D) -> list[Moments]:
    """Return windows whose variance has these logarithms."""
    generator = np.random.default_rng(seed)
    return [window(generator, math.exp(log), n, d) for log in logs]


def raw_length(windows: list[Moments]) -> float:
    """Return the sum of steps without a correction."""
    total = 0.0
    for a, b in zip(windows[1:], windows, strict=False):
        root = np.linalg.inv(np.linalg.cholesky(b.covariance()))
        total += math.sqrt(
            0.5 * float(np.square(np.log(np.linalg.eigvalsh(root @ a.covariance() @ root.T))).sum())
        )
    return total


def test_a_straight_path_has_its_true_length() -> None:
    """exp(.02 t) I for 20 steps: 20 x .02 sqrt(32 / 2) = 1.6; uncorrected it reads 10.3."""
    walks = [walk(seed, [0.02 * step for step in range(21)]) for seed in range(100)]
    paths = [follow(windows) for windows in walks]
    assert raw_length(walks[0]) == pytest.approx(10.29, rel=0.05)
    assert np.mean([path.length.value for path in paths]) == pytest.approx(1.6, rel=0.1)
    assert np.mean([path.net.value for path in paths]) == pytest.approx(1.6, rel=0.02)
    efficiencies = [path.efficiency for path in paths]
    assert all(one.defined and one.value <= 1.0 for one in efficiencies)
    assert np.mean([one.value for one in efficiencies]) > 0.85


def test_to_and_fro_leads_nowhere() -> None:
    path = follow(walk(0, [0.3 * (step % 2) for step in range(13)]))
    assert path.length.value == pytest.approx(12 * 0.3 * 4, rel=0.05)
    assert path.efficiency.value < 0.05
    assert path.net.estimator == "fisher_net_distance"


def test_standing_still_reads_the_null_of_the_length() -> None:
    paths = [follow(walk(seed, [0.0] * 21)) for seed in range(60)]
    lengths = np.array([path.length.value for path in paths])
    length = paths[0].length
    assert lengths.mean() == pytest.approx(length.null_mean, rel=0.1)
    assert lengths.std() == pytest.approx(length.null_sd, rel=0.25)
    # Which part of chance is a direction cannot be told: no efficiency, but for false alarms.
    assert np.mean([path.efficiency.undefined == "null" for path in paths]) > 0.85


def test_restart_from_arrays_equals_an_uninterrupted_run() -> None:
    windows = walk(2, [0.1 * step for step in range(6)], n=200, d=5)
    straight = follow(windows)
    arrays = follow(windows[:3]).to_arrays()
    resumed = FisherPath.from_arrays(arrays)
    assert resumed.step.undefined == "history"
    for name, array in resumed.to_arrays().items():
        assert array.tobytes() == arrays[name].tobytes()
    for one in windows[3:]:
        resumed = resumed.advance(one)
    assert resumed.step == straight.step
    assert resumed.length == straight.length
    assert resumed.efficiency == straight.efficiency
    assert sum(a.nbytes for a in arrays.values()) == 8 * (4 + 2 * (1 + 5 + 15))


def test_a_window_that_cannot_be_compared_changes_nothing() -> None:
    good = walk(3, [0.0] * 3, n=200, d=5)
    for bad, reason in (
        (Moments.of_rows(np.full((200, 5), np.nan)), "nan"),
        (Moments.zero(5), "n"),
        (Moments.of_rows(np.ones((200, 5))), "singular"),
        (Moments.of_rows(np.random.default_rng(0).normal(size=(200, 4))), "d"),
    ):
        path = follow([good[0], good[1], bad])
        assert path.step.undefined == reason
        assert path.length == follow(good[:2]).length
        assert follow([good[0], good[1], bad, good[2]]).length == follow(good).length


def test_a_path_begins_with_the_first_window_that_is_of_use() -> None:
    good = walk(4, [0.0, 0.5, 1.0], n=200, d=5)
    late = follow([Moments.of_rows(np.ones((200, 5))), Moments.zero(5), *good])
    assert late.steps == 2
    assert late.length == follow(good).length
    assert late.net == follow(good).net
    # A good beginning stays when the next window is bad.
    assert follow([good[0], Moments.zero(5), *good[1:]]).length == follow(good).length


def test_a_split_takes_more_off() -> None:
    windows = walk(5, [0.0, 0.05], n=400, d=5)
    path = FisherPath.start(windows[0])
    plain, measured = path.advance(windows[1]), path.advance(windows[1], split=10.0)
    assert measured.step.parameters["chance"] == "split"
    assert measured.length.value == 0.0
    assert plain.step.parameters["chance"] == "analytic"


def test_before_the_first_steps_there_is_no_history() -> None:
    windows = walk(6, [0.0, 1.0], n=200, d=5)
    path = FisherPath.start(windows[0])
    assert path.step.undefined == path.length.undefined == path.efficiency.undefined == "history"
    path = path.advance(windows[1])
    assert path.length.value == path.step.value > 0
    assert path.efficiency.undefined == "history"


def test_arrays_of_something_else_are_refused() -> None:
    arrays = follow(walk(7, [0.0, 0.0], n=50, d=3)).to_arrays()
    with pytest.raises(ValueError, match="reference and last"):
        FisherPath.from_arrays({k: v for k, v in arrays.items() if k != "last"})
    with pytest.raises(ValueError, match="path"):
        FisherPath.from_arrays({**arrays, "path": np.zeros(2)})
    for wrong in (np.zeros(9), np.zeros(0), np.zeros((2, 5))):
        with pytest.raises(ValueError, match=r"1 \+ d"):
            FisherPath.from_arrays({**arrays, "last": wrong})


def several() -> list[list[Moments]]:
    """Return the windows of taps of several widths, some of which go bad or start bad."""
    good = [walk(seed, [0.0, 0.2, 0.1, 0.5], n=200, d=5) for seed in range(3)]
    wide = walk(8, [0.0, 0.1, 0.3, 0.4], n=900, d=70)
    flat = Moments.of_rows(np.ones((200, 5)))
    nan = Moments.of_rows(np.full((200, 5), np.nan))
    other = walk(9, [0.0] * 4, n=200, d=4)
    return [
        good[0],
        [good[1][0], nan, *good[1][2:]],
        wide,
        [flat] * 4,
        [flat, *good[2][1:]],
        [good[2][0], *other[1:]],
        other,
    ]


def assert_same(found: Estimate, wanted: Estimate) -> None:
    """Compare two estimates: numbers to rounding, which depends on the size of a batch."""
    numbers = [
        [one.value, one.null_mean or 0.0, one.null_sd or 0.0, *(one.band or ())]
        for one in (found, wanted)
    ]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-12, nan_ok=True)
    plain = [
        replace(one, value=0.0, null_mean=None, null_sd=None, band=None) for one in (found, wanted)
    ]
    assert plain[0] == plain[1]


def test_paths_together_are_paths_alone() -> None:
    taps = several()
    together = [FisherPath.start(windows[0]) for windows in taps]
    for step in range(1, 4):
        together = FisherPath.advance_all(together, [windows[step] for windows in taps])
        efficiencies = FisherPath.efficiencies(together)
        for windows, path, efficiency in zip(taps, together, efficiencies, strict=True):
            alone = follow(windows[: step + 1])
            assert_same(path.step, alone.step)
            assert_same(path.length, alone.length)
            assert_same(efficiency, alone.efficiency)
            assert_same(path.efficiency, alone.efficiency)
            kept, wanted = path.to_arrays(), alone.to_arrays()
            np.testing.assert_allclose(kept["path"], wanted["path"], rtol=1e-12)
            for name in ("reference", "last"):
                assert kept[name].tobytes() == wanted[name].tobytes()
    assert [path.steps for path in together] == [3, 2, 3, 0, 2, 0, 3]
    assert FisherPath.advance_all([], []) == FisherPath.efficiencies([]) == []


def test_paths_together_take_a_split_each() -> None:
    windows = walk(5, [0.0, 0.05], n=400, d=5)
    start = FisherPath.start(windows[0])
    found = FisherPath.advance_all([start] * 2, [windows[1]] * 2, split=[math.nan, 10.0])
    assert [one.step.parameters["chance"] for one in found] == ["analytic", "split"]
    for paths, moments, split in (
        ([start], [], None),
        ([], [windows[0]], None),
        ([start], [windows[1]], [0.1, 0.1]),
    ):
        with pytest.raises(ValueError, match="expected"):
            FisherPath.advance_all(paths, moments, split=split)


def test_outer_products_that_are_not_symmetric_are_stored_as_one_triangle() -> None:
    windows = walk(10, [0.0, 0.1], n=200, d=3)
    skew = Moments(200.0, windows[1].total, windows[1].outer + np.tril(np.full((3, 3), 1e-9), -1))
    path = follow([windows[0], skew])
    arrays = path.to_arrays()
    assert np.array_equal(path.last.outer, path.last.outer.T)
    assert np.array_equal(FisherPath.from_arrays(arrays).last.outer, path.last.outer)
    assert path.step == follow(windows).step
