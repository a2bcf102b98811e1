"""Moments of random Fourier features: kernels, merge laws, wrong settings."""

from __future__ import annotations

import numpy as np
import pytest

from infoplane.estimators.state.fourier import FourierFeatures, FourierMoments

MAPS = FourierFeatures(dx=4, dy=3, sigma_x=1.5, sigma_y=0.7, features=16, seed=2)
FIELDS = ("x", "y", "xy", "xx", "yy")


def pairs(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of both sides, one of them not finite."""
    generator = np.random.default_rng(seed)
    x, y = generator.normal(size=(n, 4)), generator.normal(size=(n, 3))
    y[5, 1] = np.nan
    return x, y


def same(a: FourierMoments, b: FourierMoments) -> None:
    """Compare to 1e-10."""
    assert (a.n, a.dropped, a.maps) == (b.n, b.dropped, b.maps)
    for name in FIELDS:
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(64))
def test_any_split_equals_the_single_pass(seed: int) -> None:
    x, y = pairs(seed)
    generator = np.random.default_rng([seed, 1])
    count = int(generator.integers(1, 17))
    owner = generator.integers(0, count, len(x))
    shards = [np.flatnonzero(owner == i) for i in range(count)] + [np.zeros(0, np.int64)]
    merged = FourierMoments.zero(MAPS)
    for i in generator.permutation(len(shards)):
        merged = merged + FourierMoments.of_rows(x[shards[i]], y[shards[i]], maps=MAPS)
    same(merged, FourierMoments.of_rows(x, y, maps=MAPS))


def test_merge_is_associative_and_commutative_with_zero() -> None:
    a, b, c = (FourierMoments.of_rows(*pairs(seed, 40), maps=MAPS) for seed in range(3))
    same((a + b) + c, a + (b + c))
    same(a + b, b + a)
    same(a + FourierMoments.zero(MAPS), a)


def test_features_are_those_of_a_gaussian_kernel_and_have_norm_one() -> None:
    maps = FourierFeatures(5, 5, 2.0, 2.0, features=16384)
    x = np.random.default_rng(1).normal(size=(6, 5))
    phi = maps.of_side(x, 0)
    squared = np.square(x[:, None] - x[None]).sum(-1)
    np.testing.assert_allclose(phi @ phi.T, np.exp(-squared / 8.0), atol=0.03)
    np.testing.assert_allclose(np.square(phi).sum(1), 1.0, atol=1e-12)
    first, second = np.split(maps.of_side(x, 1), 2, axis=1)
    np.testing.assert_allclose(np.square(first).sum(1), 0.5, atol=1e-12)
    np.testing.assert_allclose(np.square(second).sum(1), 0.5, atol=1e-12)
    assert abs(np.corrcoef(maps.frequencies(0).ravel(), maps.frequencies(1).ravel())[0, 1]) < 0.02


def test_blocks_and_single_precision_rows_change_nothing() -> None:
    x, y = (side.astype(np.float32) for side in pairs(3, 5000))
    whole = FourierMoments.of_rows(x, y, maps=MAPS)
    same(whole, FourierMoments.of_rows(x.astype(float), y.astype(float), maps=MAPS))
    phi = MAPS.of_side(np.delete(x, 5, 0), 0)
    np.testing.assert_allclose(whole.x, phi.sum(0), atol=1e-9)


def test_wrong_settings_and_shapes() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        FourierFeatures(2, 2, 1.0, 1.0, features=6)
    with pytest.raises(ValueError, match="sigma"):
        FourierFeatures(2, 2, 1.0, float("nan"))
    with pytest.raises(ValueError, match="dx, dy, seed"):
        FourierFeatures(0, 2, 1.0, 1.0)
    with pytest.raises(ValueError, match="x, y: expected"):
        FourierMoments.of_rows(np.zeros((3, 4)), np.zeros((2, 3)), maps=MAPS)
    with pytest.raises(ValueError, match="cannot merge"):
        FourierMoments.zero(MAPS).merge(FourierMoments.zero(FourierFeatures(4, 3, 1.5, 0.7, 32)))
    with pytest.raises(ValueError, match="xy: expected"):
        FourierMoments(MAPS, 0, *(np.zeros(16),) * 2, np.zeros((4, 4)), *(np.zeros((8, 8)),) * 2)
