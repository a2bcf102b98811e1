"""Squared distance of covariances: closed forms, metric laws, what is chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from infoplane.estimators.geometry.covariance_distance import (
    WELL,
    chance_square,
    relative_eigenvalues,
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


def slow(now: Moments, before: Moments) -> float:
    """Return the square by whitening with eigenvectors."""
    values, regular = relative_eigenvalues(
        *(torch.from_numpy(one.covariance()).unsqueeze(0) for one in (before, now))
    )
    assert bool(regular)
    return 0.5 * float(values.log().square().sum())


@pytest.mark.parametrize("d", [1, 7, 64, 65])
@pytest.mark.parametrize("condition", [1.0, 1e3, 1e5, 1e9])
def test_both_ways_to_whiten_say_the_same(d: int, condition: float) -> None:
    """On either side of what the triangular root is used for, by condition and by width."""
    generator = np.random.default_rng(4)
    turn, _ = np.linalg.qr(generator.normal(size=(d, d)))
    stretch = turn * np.geomspace(1.0, condition**-0.5, d)[:, None] if d > 1 else turn
    now, before = (
        Moments.of_rows(generator.normal(size=(400, d)) @ turn.T @ stretch) for _ in range(2)
    )
    (found,) = squared_distances([now], [before])
    assert found.square == pytest.approx(slow(now, before), rel=1e-14 * max(condition, 100.0))


def test_one_bad_item_does_no_harm_to_the_others() -> None:
    """Of one width: fit for the short way, for the long way, and for none; in every place of the batch."""
    generator = np.random.default_rng(5)
    rows = generator.normal(size=(6, 90, 8))
    steep = np.geomspace(1.0, 1e-4, 8) * np.linalg.qr(generator.normal(size=(8, 8)))[0]
    good = [Moments.of_rows(one) for one in rows]
    hard = Moments.of_rows(rows[0] @ steep.T)
    flat = Moments.of_rows(rows[0] * np.r_[np.zeros(1), np.ones(7)])
    huge = Moments(90.0, np.zeros(8), 1e300 * np.eye(8))
    tiny = Moments(90.0, np.zeros(8), 1e-300 * np.eye(8))
    pairs = [
        (good[0], good[1], ""),
        (flat, good[2], "singular"),
        (hard, hard, ""),
        (good[2], flat, "singular"),
        (good[3], good[4], ""),
        (huge, tiny, "singular"),
        (good[4], hard, ""),
        (good[5], Moments.of_rows(np.full((90, 8), np.nan)), "nan"),
    ]
    assert np.linalg.cond(hard.covariance()) > WELL
    for turn in range(len(pairs)):
        some = pairs[turn:] + pairs[:turn]
        found = squared_distances([a for a, *_ in some], [b for _, b, _ in some])
        for one, (a, b, reason) in zip(found, some, strict=True):
            assert one.reason == reason
            (single,) = squared_distances([a], [b])
            assert one.square == pytest.approx(single.square, rel=1e-9, abs=1e-18)
            assert one.chance == pytest.approx(single.chance, rel=1e-9)


def test_chances_of_a_batch_are_those_of_its_items() -> None:
    generator = np.random.default_rng(6)
    values = np.sort(np.exp(generator.normal(size=(5, 9))), axis=-1)
    values[2] = 3.0
    first, second = generator.integers(20, 500, size=(2, 5)).astype(float)
    together = chance_square(values, first, second)
    for one, n, m, chance in zip(values, first, second, together, strict=True):
        assert chance_square(one, n, m) == pytest.approx(chance, rel=1e-14)
        assert pairwise_chance(one, n, m) == pytest.approx(chance, rel=1e-12)
    assert chance_square(values[:, :1], first, second).shape == (5,)


def pairwise_chance(values: np.ndarray, n: float, m: float) -> float:
    """Return the chance by the quotients of every pair, as perturbation gives them."""
    log = np.log(values)
    first, second = (1.0 + log).sum(), (1.0 - log).sum()
    for i in range(len(values)):
        for j in range(i):
            gap = values[i] - values[j]
            first += (values[i] * log[i] - values[j] * log[j]) / gap if gap else 1 + log[i]
            second += (values[j] * log[i] - values[i] * log[j]) / gap if gap else 1 - log[i]
    d = len(values)
    return float(first / n + second / m + 0.5 * (d + 1) * (d / n + d / m) ** 2 * (1 / 6 + 1 / d))
