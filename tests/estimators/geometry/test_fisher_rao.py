"""Steps of covariances and means: correction, null, band, halves, depth."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from infoplane.estimators import Estimate, fisher_step
from infoplane.estimators.geometry.fisher_rao import (
    depth_profile,
    fisher_mean_step,
    split_half_distance,
)
from infoplane.estimators.state import Moments

Step = Callable[[list[Moments], list[Moments]], list[Estimate]]


def windows(count: int, n: int, d: int, seed: int, *, scale: float = 1.0) -> list[Moments]:
    """Return windows of independent normal rows."""
    generator = np.random.default_rng(seed)
    return [Moments.of_rows(math.sqrt(scale) * generator.normal(size=(n, d))) for _ in range(count)]


def test_closed_form_survives_the_correction() -> None:
    now, before = (
        Moments(1e12, np.zeros(8), 1e12 * factor * np.eye(8)) for factor in (math.exp(3), 1.0)
    )
    (found,) = fisher_step([now], [before])
    assert found.value == pytest.approx(6.0, abs=1e-6)
    assert found.unit == "1"


def test_values_without_change_are_their_null() -> None:
    found = fisher_step(windows(200, 800, 8, 1), windows(200, 800, 8, 2))
    values = np.array([one.value for one in found])
    assert values.mean() == pytest.approx(found[0].null_mean, rel=0.15)
    assert values.std() == pytest.approx(found[0].null_sd, rel=0.15)
    # Without the correction the mean square is d (d+1)/2 (1/n + 1/m).
    assert np.square(values).mean() < 0.5 * 8 * 9 / 2 * 2 / 800


@pytest.mark.parametrize("factor", [1.0, 1.2, 2.0])
def test_band_covers_the_truth(factor: float) -> None:
    found = fisher_step(windows(300, 400, 6, 3, scale=factor), windows(300, 500, 6, 4))
    truth = math.log(factor) * math.sqrt(6 / 2)
    assert found[0].band is not None
    covered = np.mean([one.band[0] - 1e-12 <= truth <= one.band[1] for one in found if one.band])
    # Nothing is below 0, so that without change the band errs on one side only.
    assert 0.9 <= covered <= (1.0 if factor == 1.0 else 0.99)
    if factor == 2.0:
        assert np.mean([one.value for one in found]) == pytest.approx(truth, abs=0.02)


def test_halves_measure_chance_where_rows_repeat_each_other() -> None:
    """Rows that come four times count a quarter; only halves that share none know."""
    generator = np.random.default_rng(5)
    analytic, measured, halves = [], [], []
    for _ in range(60):
        rows = [generator.normal(size=(512, 8)).repeat(4, axis=0) for _ in range(2)]
        now, before = (Moments.of_rows(x) for x in rows)
        (half,) = split_half_distance(*([Moments.of_rows(x)] for x in np.split(rows[0], 2)))
        halves.append(half.value**2 / half.null_mean**2)
        analytic += fisher_step([now], [before])
        measured += fisher_step([now], [before], split=[half.value])
    assert np.mean(halves) == pytest.approx(4.0, rel=0.1)
    assert np.mean([one.value for one in measured]) < 0.5 * np.mean([o.value for o in analytic])
    assert np.mean([one.value for one in measured]) == pytest.approx(
        np.mean([one.null_mean for one in measured]), rel=0.3
    )
    assert measured[0].parameters["chance"] == "split"
    assert fisher_step([now], [before], split=[math.nan]) == fisher_step([now], [before])


def test_halves_of_independent_rows_give_the_analytic_chance() -> None:
    found = split_half_distance(windows(100, 300, 8, 6), windows(100, 900, 8, 7))
    squares = np.array([one.value**2 for one in found])
    assert found[0].null_mean == pytest.approx(math.sqrt(36 * 2 / 1200), rel=0.01)
    assert squares.mean() == pytest.approx(found[0].null_mean ** 2, rel=0.07)
    assert found[0].n == 1200


@pytest.mark.parametrize("shift", [0.0, 0.3, 2.0])
def test_mean_step_is_unbiased_and_its_band_covers(shift: float) -> None:
    generator = np.random.default_rng(8)
    mix = generator.normal(size=(5, 5)) * 10.0 ** np.arange(-2, 3)
    now, before = (
        [Moments.of_rows((generator.normal(size=(150, 5)) + part) @ mix) for _ in range(300)]
        for part in (shift, 0.0)
    )
    found = fisher_mean_step(now, before)
    truth = shift * math.sqrt(5)
    values = np.array([one.value for one in found])
    if shift:
        assert np.square(values).mean() == pytest.approx(truth**2, rel=0.06)
    else:
        assert values.mean() == pytest.approx(found[0].null_mean, rel=0.2)
    covered = np.mean([one.band[0] - 1e-12 <= truth <= one.band[1] for one in found if one.band])
    assert 0.9 <= covered <= (0.99 if shift else 1.0)


def test_means_and_covariances_are_kept_apart() -> None:
    x = np.random.default_rng(9).normal(size=(4000, 4))
    (still,) = fisher_step([Moments.of_rows(x + 7.0)], [Moments.of_rows(x)])
    (moved,) = fisher_mean_step([Moments.of_rows(x + 7.0)], [Moments.of_rows(x)])
    assert still.value == 0.0
    assert moved.value == pytest.approx(14.0, rel=0.05)


def test_depth_profile_is_the_step_between_neighbours() -> None:
    taps = [Moments(1e12, np.zeros(8), 1e12 * math.exp(2 * i) * np.eye(8)) for i in range(4)]
    found = depth_profile(taps)
    assert [one.value for one in found] == pytest.approx([4.0] * 3, abs=1e-6)
    assert {one.estimator for one in found} == {"fisher_depth_step"}
    assert depth_profile(taps[:1]) == []
    assert depth_profile([]) == []
    assert depth_profile([taps[0], Moments.zero(3)])[0].undefined == "d"


@pytest.mark.parametrize("step", [fisher_step, fisher_mean_step, split_half_distance])
def test_degenerate_items_say_why_and_harm_no_other(step: Step) -> None:
    good, other = windows(2, 50, 4, 10)
    generator = np.random.default_rng(11)
    bad = [
        (Moments.zero(4), "n"),
        (Moments.of_rows(np.ones((50, 4))), "singular"),
        (Moments.of_rows(np.full((50, 4), np.nan)), "nan"),
        (Moments.of_rows(np.full((50, 4), np.inf)), "nan"),
        (Moments.of_rows(generator.normal(size=(50, 3))), "d"),
        (Moments.of_rows(generator.normal(size=(5, 4))), "n"),
        (other, ""),
    ]
    items = [one for one, _ in bad]
    reasons = [reason for _, reason in bad]
    if step is fisher_mean_step:
        # One regular side makes the pooled covariance regular.
        reasons[1] = ""
        flat = Moments.of_rows(np.ones((50, 4)))
        assert step([flat], [flat])[0].undefined == "singular"
    assert [one.undefined for one in step(items, [good] * len(items))] == reasons
    assert [one.undefined for one in step([good] * len(items), items)] == reasons
    batch = step([other, good], [good, other])
    assert batch[0].value == pytest.approx(step([other], [good])[0].value, abs=1e-12)
    assert step([], []) == []


def test_numbers_of_items_must_agree() -> None:
    (one,) = windows(1, 20, 2, 12)
    with pytest.raises(ValueError, match="as many items each"):
        fisher_step([one], [])
    with pytest.raises(ValueError, match="as many items each"):
        fisher_mean_step([one], [])
    with pytest.raises(ValueError, match="split: expected 1"):
        fisher_step([one], [one], split=[])
