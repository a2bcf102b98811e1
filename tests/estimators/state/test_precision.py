"""Precision of a reward head: noise of a comparison and merge laws."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
import pytest

from infoplane.estimators.state import EdgeNoise, RewardPrecision

K = 6


class Labels:
    """Random comparisons with embeddings and rewards."""

    def __init__(self, seed: int, m: int = 300) -> None:
        generator = np.random.default_rng([seed, 6])
        self.rows: dict[str, Any] = {
            "winner": (generator.normal(size=(m, K)) + 3.0).astype(np.float32),
            "loser": generator.normal(size=(m, K)).astype(np.float32),
            "weight": generator.random(m) + 0.5,
            "reward_winner": 5.0 + generator.normal(size=m),
            "reward_loser": 5.0 + generator.normal(size=m),
        }
        self.rows["winner"][3, 1] = np.nan
        self.rows["reward_loser"][4] = np.inf

    def state(self, rows: Any = slice(None)) -> RewardPrecision:
        return RewardPrecision.of_comparisons(**{k: v[rows] for k, v in self.rows.items()})


def same_precision(a: RewardPrecision, b: RewardPrecision) -> None:
    assert (a.comparisons, a.dropped, a.noise) == (b.comparisons, b.dropped, b.noise)
    assert (a.features.n, a.rewards.n) == (b.features.n, b.rewards.n)
    for left, right in (
        (a.precision, b.precision),
        (a.features.total, b.features.total),
        (a.features.outer, b.features.outer),
        (a.rewards.total, b.rewards.total),
        (a.rewards.outer, b.rewards.outer),
    ):
        scale = max(1.0, float(np.abs(right).max()))
        np.testing.assert_allclose(left / scale, right / scale, rtol=0, atol=1e-10)


@pytest.mark.parametrize("seed", range(64))
def test_any_split_equals_the_single_pass(seed: int) -> None:
    labels = Labels(seed)
    generator = np.random.default_rng([seed, 2])
    owner = generator.integers(0, generator.integers(1, 17), size=300)
    parts = [labels.state(owner == shard) for shard in generator.permutation(18)]  # some empty
    same_precision(reduce(RewardPrecision.merge, parts, RewardPrecision.zero(K)), labels.state())


def test_monoid_laws() -> None:
    a, b, c = (Labels(seed).state() for seed in range(3))
    same_precision((a + b) + c, a + (b + c))
    same_precision(a + b, b + a)
    same_precision(a + RewardPrecision.zero(K), a)
    same_precision(RewardPrecision.zero(K) + a, a)


def test_blocks_give_what_one_product_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Labels(0).state()
    monkeypatch.setattr("infoplane.estimators.state.precision._BLOCK_ROWS", 7)
    same_precision(Labels(0).state(), whole)


def test_noise_of_a_comparison() -> None:
    weight, difference = np.array([1.0, 2.0, 1.0, 1.0]), np.array([0.0, 0.0, np.nan, 1e6])
    fisher = EdgeNoise(beta=2.0)
    np.testing.assert_allclose(fisher.precision(weight, difference), [1.0, 2.0, 1.0, 0.0])
    np.testing.assert_allclose(fisher.precision(weight), [1.0, 2.0, 1.0, 1.0])
    s = 1.0 / (1.0 + np.exp(-2.0 * 0.7))
    for sign in (-1.0, 1.0):
        np.testing.assert_allclose(
            fisher.precision(np.ones(1), np.array([sign * 0.7])), 4.0 * s * (1.0 - s)
        )
    variance = EdgeNoise("logistic_var", beta=2.0)
    np.testing.assert_allclose(1.0 / variance.precision(np.ones(1)), np.pi**2 / 12.0)


def test_unusable_rows_are_dropped_and_unknown_rewards_are_even() -> None:
    state = Labels(0).state()
    assert (state.comparisons, state.dropped) == (299, 1)
    assert (state.features.n, state.rewards.n) == (598, 596)
    assert np.isfinite(state.precision).all()


def test_wrong_input_is_refused() -> None:
    x = np.zeros((3, K))
    with pytest.raises(ValueError, match="shapes"):
        RewardPrecision.of_comparisons(x, np.zeros((3, K + 1)))
    with pytest.raises(ValueError, match="both"):
        RewardPrecision.of_comparisons(x, x, reward_winner=np.zeros(3))
    with pytest.raises(ValueError, match="rewards"):
        RewardPrecision.of_comparisons(x, x, reward_winner=np.zeros(3), reward_loser=np.zeros(2))
    with pytest.raises(ValueError, match="width"):
        RewardPrecision.zero(K).merge(RewardPrecision.zero(K + 1))
    with pytest.raises(ValueError, match="noise"):
        RewardPrecision.zero(K).merge(RewardPrecision.zero(K, EdgeNoise(beta=2.0)))
    with pytest.raises(ValueError, match="precision"):
        RewardPrecision(np.zeros((2, 2)), RewardPrecision.zero(K).features)
    with pytest.raises(ValueError, match="beta"):
        EdgeNoise(beta=0.0)
    with pytest.raises(ValueError, match="form"):
        EdgeNoise("gaussian")  # type: ignore[arg-type]
