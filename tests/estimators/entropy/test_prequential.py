"""Code lengths: closed forms, the regret's laws, restart, the mixture inequality."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infoplane.estimators.entropy.prequential import (
    PrequentialCode,
    checkpoint_mixture_gain,
    kt_code_length,
    plug_in_code_length,
    prequential_code_length,
    prequential_regret,
    uniform_code_length,
    uniform_regret_bound,
)


@pytest.mark.parametrize(
    ("n", "regret", "bound", "kt"),
    [(100, 2.171, 2.892, 2.531), (1000, 3.316, 4.041, 3.680), (10_000, 4.467, 5.192, 4.831)],
)
def test_bernoulli_with_three_ones_in_ten(n: int, regret: float, bound: float, kt: float) -> None:
    ones, zeros = 3 * n // 10, 7 * n // 10
    best = plug_in_code_length(ones, zeros)
    assert uniform_code_length(ones, zeros) - best == pytest.approx(regret, abs=1e-3)
    assert uniform_regret_bound(ones, zeros) == pytest.approx(bound, abs=1e-3)
    assert kt_code_length(ones, zeros) - best == pytest.approx(kt, abs=1e-3)
    assert kt_code_length(ones, zeros) - best == pytest.approx(
        0.5 * math.log(n * math.pi / 2), abs=2.0 / n
    )


@given(st.lists(st.booleans(), max_size=60))
@settings(max_examples=100, deadline=None)
def test_code_lengths_are_sums_of_sequential_losses(bits: list[bool]) -> None:
    """Laplace predicts (ones + 1) / (n + 2), Krichevsky-Trofimov (ones + 1/2) / (n + 1)."""
    laplace = kt = 0.0
    seen = [0, 0]
    for bit in map(int, bits):
        laplace -= math.log((seen[bit] + 1) / (sum(seen) + 2))
        kt -= math.log((seen[bit] + 0.5) / (sum(seen) + 1))
        seen[bit] += 1
    assert uniform_code_length(seen[1], seen[0]) == pytest.approx(laplace, abs=1e-9)
    assert kt_code_length(seen[1], seen[0]) == pytest.approx(kt, abs=1e-9)


@given(st.integers(0, 10**7), st.integers(0, 10**7))
@settings(max_examples=100, deadline=None)
def test_regret_lies_between_zero_and_its_bound(ones: int, zeros: int) -> None:
    regret = uniform_code_length(ones, zeros) - plug_in_code_length(ones, zeros)
    assert -1e-6 <= regret <= uniform_regret_bound(ones, zeros) + 1e-6


def test_negative_counts_are_refused() -> None:
    for function in (
        uniform_code_length,
        kt_code_length,
        plug_in_code_length,
        uniform_regret_bound,
    ):
        assert function(0, 0) == 0.0
        with pytest.raises(ValueError, match="ones, zeros"):
            function(-1, 2)


def advanced(losses: list[float], n: float = 100.0, horizon: int = 20) -> PrequentialCode:
    state = PrequentialCode(horizon)
    for loss in losses:
        state = state.advance(loss, n)
    return state


def test_length_is_the_sum_and_regret_is_above_the_best_trailing_mean() -> None:
    # Every step weighs the same, so a horizon of 1 makes the trailing mean the last loss.
    state = advanced([5.0, 3.0, 2.0, 2.5], horizon=1)
    length = prequential_code_length(state, vocabulary=1000)
    assert (length.value, length.n, length.unit) == (1250.0, 400, "nats")
    assert length.null_mean == pytest.approx(400 * math.log(1000))
    assert state.trailing == 2.5
    assert prequential_regret(state).value == pytest.approx(1250.0 - 400 * 2.0)


def test_trailing_mean_weighs_tokens() -> None:
    state = PrequentialCode(2).advance(4.0, 100).advance(1.0, 300)
    assert state.trailing == pytest.approx((0.5 * 400 + 300) / (0.5 * 100 + 300))


def test_learning_curve() -> None:
    """Loss 2 + 3 e^(-i/30): the regret tends to the area above the floor."""
    losses = [2.0 + 3.0 * math.exp(-i / 30) for i in range(600)]
    found = prequential_regret(advanced(losses, n=10.0))
    assert found.value == pytest.approx(10.0 * sum(loss - 2.0 for loss in losses), rel=1e-3)
    assert found.null_mean == 0.0
    assert found.parameters == {"horizon": 20}


def test_a_loss_that_only_rises_has_no_regret() -> None:
    assert prequential_regret(advanced([0.0] * 19 + [10.0])).value == 0.0


def test_noise_makes_the_regret_high_by_the_stated_amount() -> None:
    steps, sd = 2000, 0.05
    values = []
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(size=steps)
        values.append(prequential_regret(advanced((2.0 + sd * noise).tolist(), n=1.0)).value)
    stated = steps * sd * math.sqrt(math.log(steps / 20) / 20)
    assert np.mean(values) == pytest.approx(stated, rel=0.25)


@given(st.lists(st.floats(0.0, 1e3), min_size=20, max_size=60))
@settings(max_examples=100, deadline=None)
def test_regret_is_never_negative_and_at_most_the_length(losses: list[float]) -> None:
    state = advanced(losses)
    assert 0.0 <= prequential_regret(state).value <= state.nats + 1e-6


@pytest.mark.parametrize("cut", [0, 1, 19, 33])
def test_restart_from_arrays_is_bit_equal(cut: int) -> None:
    losses = np.random.default_rng(0).exponential(2.0, 50).tolist()
    losses[30] = math.nan
    half = PrequentialCode.from_arrays(advanced(losses[:cut]).to_arrays())
    for loss in losses[cut:]:
        half = half.advance(loss, 100.0)
    assert half == advanced(losses)
    assert half.skipped == 1


def test_input_that_says_nothing_is_skipped() -> None:
    state = advanced([2.0, 1.5])
    for loss, n in (
        (math.nan, 10.0),
        (math.inf, 10.0),
        (1.0, 0.0),
        (1.0, -5.0),
        (1.0, math.nan),
        (1.0, math.inf),
        (1e308, 1e10),
    ):
        after = state.advance(loss, n)
        assert after.skipped == 1
        assert (after.nats, after.n, after.best) == (state.nats, state.n, state.best)


def test_states_that_say_nothing() -> None:
    assert prequential_code_length(PrequentialCode()).undefined == "n"
    assert prequential_regret(PrequentialCode()).undefined == "n"
    assert prequential_regret(advanced([2.0] * 19)).undefined == "n"
    assert prequential_regret(advanced([2.0] * 20)).value == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="horizon: expected at least 1"):
        PrequentialCode(0)
    with pytest.raises(ValueError, match="arrays: expected counts"):
        PrequentialCode.from_arrays({"counts": np.zeros(3)})


@given(
    st.integers(2, 6).flatmap(
        lambda k: st.lists(
            st.lists(st.floats(-700.0, 0.0), min_size=k, max_size=k), min_size=1, max_size=20
        )
    )
)
@settings(max_examples=200, deadline=None)
def test_mixture_is_within_ln_k_of_the_best_on_every_stream(stream: list[list[float]]) -> None:
    """Of the stream as a whole, hence with streams of one token of every token."""
    log_probs = torch.tensor(stream, dtype=torch.float64).T
    k = log_probs.shape[0]
    for part in (log_probs, *log_probs.split(1, dim=1)):
        losses = -part.mean(1)
        found = checkpoint_mixture_gain(part)
        mixture = float(losses.mean()) - found.value
        assert mixture <= float(losses.min()) + math.log(k) + 1e-9
        assert found.value >= 0.0


def test_mixture_gain_of_known_checkpoints() -> None:
    probabilities = torch.tensor([[0.9, 0.1, 0.5], [0.1, 0.9, 0.5]], dtype=torch.float64)
    found = checkpoint_mixture_gain(probabilities.log())
    gain = math.log(0.5) - 0.5 * math.log(0.09)
    assert found.value == pytest.approx(2 * gain / 3, abs=1e-12)
    spread = math.sqrt((2 * (gain / 3) ** 2 + (2 * gain / 3) ** 2) / 2)
    half = 1.96 * spread / math.sqrt(3)
    assert found.band == pytest.approx((found.value - half, found.value + half))
    assert found.parameters == {"checkpoints": 2}
    single = checkpoint_mixture_gain(probabilities[:, :1].float().log())
    assert single.value == pytest.approx(gain, abs=1e-6)
    assert single.band is None
    assert checkpoint_mixture_gain(probabilities.log().numpy()) == found
    assert checkpoint_mixture_gain(probabilities[:1].log().expand(3, -1)).value == 0.0


def test_degenerate_log_probabilities() -> None:
    log_probs = torch.randn(3, 5).abs().neg()
    assert checkpoint_mixture_gain(log_probs[:, :0]).undefined == "n"
    assert checkpoint_mixture_gain(log_probs[:1]).undefined == "checkpoints"
    for odd in (math.nan, -math.inf, math.inf):
        log_probs[1, 2] = odd
        assert checkpoint_mixture_gain(log_probs).undefined == "nan"
    with pytest.raises(ValueError, match=r"log_probs: expected shape \(k, n\)"):
        checkpoint_mixture_gain(torch.zeros(3))
