"""Gaussian bottleneck: closed forms, the curve's shape, chance, merging."""

from __future__ import annotations

import math
from functools import reduce
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from infoplane.estimators.mutual_information.gaussian_bottleneck import (
    GaussianBottleneck,
    gaussian_bottleneck,
)
from infoplane.estimators.state import Moments


def population(*correlations: float, n: float = 1e9) -> GaussianBottleneck:
    """Return the bottleneck of pairs of columns with the given correlations, without noise."""
    d = len(correlations)
    covariance = np.eye(2 * d)
    covariance[np.arange(d), np.arange(d) + d] = correlations
    covariance[np.arange(d) + d, np.arange(d)] = correlations
    return gaussian_bottleneck(Moments(n, np.zeros(2 * d), covariance * (n - 1)), d)


def rows(n: int, dx: int, dy: int, squares: list[float], seed: int) -> npt.NDArray[np.float64]:
    """Return rows ``[x | y]`` whose leading columns correlate, both sides rotated."""
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(n, dx)), generator.normal(size=(n, dy))
    for i, square in enumerate(squares):
        y[:, i] = math.sqrt(square) * x[:, i] + math.sqrt(1 - square) * y[:, i]
    turns = [np.linalg.qr(generator.normal(size=(d, d)))[0] for d in (dx, dy)]
    return np.concatenate([x @ turns[0], y @ turns[1]], axis=1)


def test_one_pair_of_correlation_nine_tenths() -> None:
    found = population(0.9)
    assert found.critical_beta.value == pytest.approx(1.2346, abs=1e-4)
    assert found.predictive_information.value == pytest.approx(0.8304, abs=1e-4)
    assert found.information_rank.value == 1.0
    below, two, ten, end = found.curve([1.2, 2.0, 10.0, math.inf])
    assert below == (0.0, 0.0)
    assert two == pytest.approx((0.7250, 0.4838), abs=1e-4)
    assert ten == pytest.approx((1.8236, 0.7777), abs=1e-4)
    assert end == (math.inf, pytest.approx(0.8304, abs=1e-4))


def test_curve_equals_a_code_built_by_hand() -> None:
    """T = aX + noise of variance 1, a^2 = [beta rho^2 - 1] / (1 - rho^2) for unit variances."""
    found = population(0.9, 0.5)
    beta = 7.0
    about_x = about_y = 0.0
    for square in found.squared_correlations:
        gain = (beta * square - 1.0) / (1.0 - square)
        about_x += 0.5 * math.log1p(gain)
        # Given Y, X keeps a variance of 1 - rho^2.
        about_y += 0.5 * math.log((1.0 + gain) / (1.0 + gain * (1.0 - square)))
    assert found.curve([beta])[0] == pytest.approx((about_x, about_y), abs=1e-12)


def test_curve_is_concave_with_slope_one_over_beta() -> None:
    found = population(0.9, 0.7, 0.4)
    betas = np.geomspace(1.3, 500.0, 400)
    curve = np.array(found.curve(betas.tolist()))
    slopes = np.diff(curve[:, 1]) / np.diff(curve[:, 0])
    assert (np.diff(curve, axis=0) > 0).all()
    assert (np.diff(slopes) < 0).all()
    # A chord's slope lies between those at its ends.
    assert (slopes <= 1.0 / betas[:-1] + 1e-12).all()
    assert (slopes >= 1.0 / betas[1:] - 1e-12).all()
    assert found.information_rank.value == 3.0
    assert population(0.9, 0.3).information_rank.value == 1.0


@pytest.mark.parametrize(
    ("n", "dx", "dy", "reps"), [(100, 1, 1, 800), (100, 6, 9, 400), (256, 32, 32, 120)]
)
def test_independent_blocks_show_no_direction_beyond_chance(
    n: int, dx: int, dy: int, reps: int
) -> None:
    """Level 0.01: more than expected + 3 standard deviations of hits would be a defect."""
    found = [gaussian_bottleneck(Moments.of_rows(rows(n, dx, dy, [], s)), dx) for s in range(reps)]
    hits = sum(one.information_rank.value > 0 for one in found)
    assert hits <= 0.01 * reps + 3 * math.sqrt(0.01 * reps)
    misses = [one for one in found if not one.squared_correlations]
    assert {one.critical_beta.undefined for one in misses} == {"null"}
    assert misses[0].curve([10.0, math.inf]) == [(0.0, 0.0), (0.0, 0.0)]
    mean = sum(one.predictive_information.value for one in found) / reps
    sd = found[0].predictive_information.null_sd
    assert sd is not None
    assert mean == pytest.approx(0.0, abs=4 * sd / math.sqrt(reps))


@pytest.mark.parametrize(
    ("n", "dx", "dy", "squares"),
    [(1024, 64, 64, [0.5]), (256, 32, 32, [0.81]), (256, 4, 4, [0.9, 0.5]), (1024, 8, 48, [0.4])],
)
def test_inflated_correlations_come_back_to_the_truth(
    n: int, dx: int, dy: int, squares: list[float]
) -> None:
    found = [
        gaussian_bottleneck(Moments.of_rows(rows(n, dx, dy, squares, s)), dx) for s in range(24)
    ]
    first = np.array([one.squared_correlations[0] for one in found])
    assert first.mean() == pytest.approx(squares[0], abs=0.025)
    ranks = [one.information_rank.value for one in found]
    assert np.median(ranks) == len(squares)
    covered = [
        one.critical_beta.band is not None
        and one.critical_beta.band[0] <= 1 / squares[0] <= one.critical_beta.band[1]
        for one in found
    ]
    assert np.mean(covered) >= 0.75


def test_too_few_rows_to_see_the_rank_are_marked() -> None:
    wide = gaussian_bottleneck(Moments.of_rows(rows(256, 32, 32, [0.81], 0)), 32)
    narrow = gaussian_bottleneck(Moments.of_rows(rows(1024, 4, 4, [0.81], 0)), 4)
    assert wide.information_rank.saturated
    assert not narrow.information_rank.saturated
    assert narrow.critical_beta.ceiling is not None
    assert narrow.critical_beta.ceiling > 10.0


def test_shards_merge_to_the_pooled_reading() -> None:
    x = rows(1000, 5, 7, [0.8, 0.4], 3)
    cuts = [0, 1, 1, 50, 300, 301, 640, 900, 1000]
    merged = reduce(
        Moments.merge,
        [Moments.of_rows(x[a:b]) for a, b in pairwise(cuts)],
        Moments.zero(12),
    )
    whole, parts = gaussian_bottleneck(Moments.of_rows(x), 5), gaussian_bottleneck(merged, 5)
    assert parts.squared_correlations == pytest.approx(whole.squared_correlations, abs=1e-10)
    assert parts.predictive_information.value == pytest.approx(
        whole.predictive_information.value, abs=1e-10
    )
    assert parts.critical_beta.value == pytest.approx(whole.critical_beta.value, abs=1e-9)


def test_sides_are_interchangeable() -> None:
    x = rows(400, 3, 6, [0.7], 1)
    left = gaussian_bottleneck(Moments.of_rows(x), 3)
    right = gaussian_bottleneck(Moments.of_rows(np.roll(x, 6, axis=1)), 6)
    assert left.squared_correlations == pytest.approx(right.squared_correlations, abs=1e-12)


def test_degenerate_input() -> None:
    x = rows(100, 3, 3, [0.9], 0)
    odd = x.copy()
    odd[4, 1] = np.nan
    twice = np.concatenate([x[:, :3], x[:, :3]], axis=1)
    for moments, width, reason in (
        (Moments.of_rows(x[:7]), 3, "n"),
        (Moments.of_rows(odd), 3, "nan"),
        (Moments.of_rows(np.ones((50, 6))), 3, "constant"),
        (Moments.of_rows(x), 0, "constant"),
        (Moments.of_rows(twice), 3, "singular"),
        (Moments.zero(6), 3, "n"),
    ):
        found = gaussian_bottleneck(moments, width)
        readings = (found.predictive_information, found.critical_beta, found.information_rank)
        assert {one.undefined for one in readings} == {reason}
        assert found.curve([2.0]) == []
    dead = x.copy()
    dead[:, 1] = 0.1
    assert gaussian_bottleneck(Moments.of_rows(dead), 3).information_rank.ceiling == 2.0


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="width_x"):
        gaussian_bottleneck(Moments.zero(4), 5)
    with pytest.raises(ValueError, match="beta: expected a number above 1"):
        gaussian_bottleneck(Moments.zero(4), 2, beta=1.0)
    for wrong in (-1.0, math.nan):
        with pytest.raises(ValueError, match="betas"):
            population(0.9).curve([wrong])
