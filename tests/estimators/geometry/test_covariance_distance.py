"""Squared distance of covariances: closed forms, metric laws, what is chance."""

from __future__ import annotations

import math

import numpy as np
import pytest

from infoplane.estimators.geometry.covariance_distance import (
    chance_square,
    squared_distances,
    still_square,
)
from infoplane.estimators.state import Moments


def population(covariance: np.ndarray, n: float = 1e12) -> Moments:
    """Return moments of n rows with exactly this covariance and mean zero."""
    return Moments(n, np.zeros(len(covariance)), (n - 1) * covariance)


def wishart(generator: np.random.Generator, variances: np.ndarray, n: int) -> Moments:
    """Return moments of n independent normal rows, drawn without drawing the rows."""
    d = len(variances)
    root = np.tril(generator.normal(size=(d, d)), -1)
    root += np.diag(np.sqrt(generator.chisquare(n - 1 - np.arange(d))))
    root *= np.sqrt(variances)[:, None]
    return Moments(float(n), np.zeros(d), root @ root.T)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the distance of two covariances."""
    (found,) = squared_distances([population(a)], [population(b)])
    assert not found.reason
    return math.sqrt(found.square)


def test_closed_forms() -> None:
    assert distance(np.eye(8), math.exp(3) * np.eye(8)) == pytest.approx(6.0, abs=1e-6)
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))
    ladder = q @ np.diag(np.arange(1.0, 9.0)) @ q.T
    assert distance(np.eye(8), ladder) == pytest.approx(2.959776, abs=1e-6)


def test_a_rotation_alone_is_seen() -> None:
    """Eigenvalues stay as they are, so a comparison of spectra would say 0."""
    c, s = math.cos(0.5), math.sin(0.5)
    turn = np.array([[c, -s], [s, c]])
    spread = np.diag([1.0, 5.0])
    assert distance(spread, turn @ spread @ turn.T) == pytest.approx(0.8333, abs=5e-5)


def test_it_is_a_metric_and_minds_no_change_of_coordinates() -> None:
    generator = np.random.default_rng(1)
    a, b, c = (x.T @ x for x in generator.normal(size=(3, 40, 6)))
    assert distance(a, b) == pytest.approx(distance(b, a), abs=1e-9)
    assert distance(a, a) == pytest.approx(0.0, abs=1e-6)
    assert distance(a, c) <= distance(a, b) + distance(b, c)
    for scale in (1e-6, 1.0, 1e6):
        m = scale * generator.normal(size=(6, 6))
        assert distance(m @ a @ m.T, m @ b @ m.T) == pytest.approx(distance(a, b), abs=1e-6)
    uneven = np.diag(10.0 ** np.arange(-9, 9, 3))
    assert distance(uneven @ a @ uneven, uneven @ b @ uneven) == pytest.approx(
        distance(a, b), abs=1e-6
    )


@pytest.mark.parametrize(("d", "n", "spread"), [(16, 512, 0.0), (16, 512, 2.0), (24, 4096, 1.0)])
def test_chance_is_what_sampling_adds(d: int, n: int, spread: float) -> None:
    """Mean over 300 draws of the square less its chance, within 4 standard errors and 2 %."""
    generator = np.random.default_rng(d)
    logs = np.linspace(-spread, spread, d)
    now = [wishart(generator, np.exp(logs), n) for _ in range(300)]
    before = [wishart(generator, np.ones(d), 2 * n) for _ in range(300)]
    found = squared_distances(now, before)
    truth = 0.5 * float(np.square(logs).sum())
    rest = np.array([one.square - one.chance for one in found]) - truth
    chance = float(np.mean([one.chance for one in found]))
    assert abs(rest.mean()) < 4.0 * rest.std() / math.sqrt(300) + 0.02 * chance
    # The form without change falls short after one.
    assert chance > 0.995 * still_square(d, n, 2 * n)


def test_chance_without_change_and_its_symmetry() -> None:
    ones = np.ones(12)
    for n, m in ((1e4, 3e4), (1e6, 1e5)):
        first_order = 78 * (1 / n + 1 / m)
        assert chance_square(ones, n, m) == pytest.approx(first_order, rel=0.5 * 12 / min(n, m))
        assert still_square(12, n, m) == pytest.approx(first_order, rel=1.0 * 12 / min(n, m))
    values = np.exp(np.linspace(-3, 2, 9))
    assert chance_square(values, 70, 300) == pytest.approx(
        chance_square(1.0 / values[::-1], 300, 70), abs=1e-12
    )
    # Equal values are the limit of near ones.
    near = np.array([2.0, 2.0 * (1 + 1e-4), 5.0])
    equal = np.array([2.0, 2.0, 5.0])
    assert chance_square(near, 10, 20) == pytest.approx(chance_square(equal, 10, 20), rel=1e-3)


@pytest.mark.parametrize(("n", "measured"), [(8192, 0.520), (2048, 2.05)])
def test_values_without_change_are_those_measured_elsewhere(n: int, measured: float) -> None:
    assert still_square(64, n, n) == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize(("d", "n", "m"), [(48, 384, 384), (48, 384, 3840), (6, 48, 48)])
def test_second_order_matters_when_rows_are_few(d: int, n: int, m: int) -> None:
    generator = np.random.default_rng(n)
    draws = 100 if d > 10 else 1500
    found = squared_distances(
        *([wishart(generator, np.ones(d), rows) for _ in range(draws)] for rows in (n, m))
    )
    squares = np.array([one.square for one in found])
    chances = np.array([one.chance for one in found])
    assert chances.mean() == pytest.approx(squares.mean(), rel=0.015)
    assert still_square(d, n, m) == pytest.approx(squares.mean(), rel=0.03)
    assert d * (d + 1) / 2 * (1 / n + 1 / m) < 0.97 * squares.mean()


def test_mixed_widths_keep_their_order_and_reasons() -> None:
    generator = np.random.default_rng(2)
    good = {d: Moments.of_rows(generator.normal(size=(50, d))) for d in (3, 4)}
    nan = Moments.of_rows(np.full((50, 4), np.nan))
    twin = Moments.of_rows(generator.normal(size=(50, 1)).repeat(4, 1))
    cases = [
        (good[4], good[4], ""),
        (good[3], good[4], "d"),
        (nan, good[4], "nan"),
        (Moments(math.inf, np.zeros(4), np.eye(4)), good[4], "nan"),
        (Moments.zero(4), good[4], "n"),
        (Moments.of_rows(generator.normal(size=(5, 4))), good[4], "n"),
        (Moments.of_rows(np.zeros((50, 0))), Moments.of_rows(np.zeros((50, 0))), "n"),
        (Moments.of_rows(np.full((50, 4), 3.0)), good[4], "singular"),
        (twin, good[4], "singular"),
        (good[3], good[3], ""),
    ]
    for flip in (False, True):
        now, before = ([c[side] for c in cases] for side in ((1, 0) if flip else (0, 1)))
        found = squared_distances(now, before)
        for one, (*_, reason) in zip(found, cases, strict=True):
            assert math.isfinite(one.square)
            assert math.isfinite(one.chance)
            assert one.reason == reason
    assert squared_distances([], []) == []
    with pytest.raises(ValueError, match="as many items each"):
        squared_distances([good[3]], [])


def test_batch_equals_single_items() -> None:
    generator = np.random.default_rng(3)
    now, before = (
        [Moments.of_rows(generator.normal(size=(80, 7))) for _ in range(4)] for _ in range(2)
    )
    for one, a, b in zip(squared_distances(now, before), now, before, strict=True):
        (single,) = squared_distances([a], [b])
        assert one.square == pytest.approx(single.square, abs=1e-12)
        assert one.chance == pytest.approx(single.chance, abs=1e-12)
