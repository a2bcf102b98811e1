"""Posterior variance of rewards: effective resistance, brute force, Bradley-Terry, growth of data."""

from __future__ import annotations

from itertools import combinations
from types import SimpleNamespace
from typing import Any

import networkx as nx
import numpy as np
import numpy.typing as npt
import pytest

from infoplane.estimators.rewards import (
    RewardPosterior,
    mean_resistance,
    resistance_matrix,
    reward_posterior_variance,
    reward_uncertainty_ratio,
)
from infoplane.estimators.state import EdgeNoise, Moments, RewardPrecision

K = 5


def rows(seed: int, m: int = 200, k: int = K) -> dict[str, Any]:
    """Return embeddings and Bradley-Terry rewards of a linear head."""
    generator = np.random.default_rng([seed, 21])
    a, b = generator.normal(size=(2, m, k)) * np.arange(1, k + 1) + 2.0
    head = generator.normal(size=k) / k
    return {"winner": a, "loser": b, "reward_winner": a @ head, "reward_loser": b @ head}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("nodes", [10, 60, 256])
def test_one_hot_embeddings_give_the_effective_resistance(
    graphs: SimpleNamespace, nodes: int, seed: int
) -> None:
    graph = graphs.random_graph(seed, nodes=nodes)
    responses = graphs.response_graph(graph)
    one_hot = np.eye(nodes)
    precision = np.exp(np.random.default_rng(seed).normal(size=responses.edges))
    state = RewardPrecision.of_comparisons(
        one_hot[responses.tail], one_hot[responses.head], weight=4.0 * precision
    )
    posterior = RewardPosterior.of_precision(state.precision, 1e-9)
    i, j = np.triu_indices(nodes, 1)
    truth = resistance_matrix(responses, precision)[i, j]
    np.testing.assert_allclose(posterior.pair_variance(one_hot[i] - one_hot[j]), truth, atol=1e-6)
    mean = posterior.mean_pair_variance(Moments.of_rows(one_hot).covariance())
    assert mean == pytest.approx(truth.mean(), abs=1e-6)
    assert mean == pytest.approx(mean_resistance(responses, precision).value, abs=1e-6)
    for a, b, w in zip(responses.tail, responses.head, precision, strict=True):
        graph[int(a)][int(b)]["weight"] = w
    theirs = nx.resistance_distance(graph, 0, nodes - 1, weight="weight", invert_weight=False)
    assert truth[nodes - 2] == pytest.approx(theirs, abs=1e-6)


def test_the_mean_is_that_over_all_pairs_of_responses() -> None:
    data = rows(0, m=30)
    state = RewardPrecision.of_comparisons(**data)
    found, ratio = reward_posterior_variance(state), reward_uncertainty_ratio(state)
    phi = np.concatenate([data["winner"], data["loser"]])
    reward = np.concatenate([data["reward_winner"], data["reward_loser"]])
    i, j = np.array(list(combinations(range(60), 2))).T
    spread = np.sum((phi[i] - phi[j]) ** 2, axis=1).mean()
    posterior = RewardPosterior.of_precision(state.precision, spread / 4.0)
    variance = posterior.pair_variance(phi[i] - phi[j]).mean()
    assert found.value == pytest.approx(variance, rel=1e-9)
    assert ratio.value == pytest.approx(variance / np.mean((reward[i] - reward[j]) ** 2), rel=1e-9)
    assert (found.n, found.ceiling, found.unit, ratio.unit) == (30, 4.0, "1", "ratio")


def test_units_of_embeddings_and_rewards_do_not_matter() -> None:
    data = rows(1)
    base = RewardPrecision.of_comparisons(**data)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(K, K)))[0]
    moved = RewardPrecision.of_comparisons(
        **data | {name: 50.0 * (data[name] @ turn) + 3.0 for name in ("winner", "loser")}
    )
    for estimator in (reward_posterior_variance, reward_uncertainty_ratio):
        assert estimator(moved).value == pytest.approx(estimator(base).value, rel=1e-8)
    rescaled = RewardPrecision.of_comparisons(
        **data | {name: 10.0 * data[name] for name in ("reward_winner", "reward_loser")},
        noise=EdgeNoise(beta=0.1),
    )
    assert reward_uncertainty_ratio(rescaled).value == pytest.approx(
        reward_uncertainty_ratio(base).value, rel=1e-8
    )


def test_without_labels_the_prior_is_left() -> None:
    data = rows(2)
    faint = RewardPrecision.of_comparisons(**data, weight=np.full(200, 1e-9))
    assert reward_posterior_variance(faint).value == pytest.approx(4.0, rel=1e-6)
    found = reward_posterior_variance(faint, prior_variance=0.5)
    assert found.value == pytest.approx(0.5, rel=1e-6)
    assert found.parameters["prior_variance"] == 0.5


def test_it_is_the_error_of_a_bayesian_reader() -> None:
    generator = np.random.default_rng(3)
    dphi, query = generator.normal(size=(25, K)), generator.normal(size=K)
    variance, prior = 2.0, 0.7
    posterior = RewardPosterior.of_precision(dphi.T @ dphi / variance, prior)
    head = generator.normal(size=(20_000, K)) / np.sqrt(prior)
    reading = head @ dphi.T + generator.normal(size=(20_000, 25)) * np.sqrt(variance)
    error = (head - reading @ dphi @ posterior.covariance / variance) @ query
    truth = posterior.pair_variance(query[None, :])[0]
    assert np.mean(error**2) == pytest.approx(truth, rel=0.04)


def test_bradley_terry_fits_vary_as_laplace_says() -> None:
    reward, beta, m, draws = np.array([0.0, 0.3, 0.5, 0.1]), 2.0, 200, 3000
    tail, head = np.arange(4), (np.arange(4) + 1) % 4
    design = (np.eye(4)[tail] - np.eye(4)[head])[:, 1:]  # the first reward is pinned to 0
    difference = reward[tail] - reward[head]
    noise = EdgeNoise(beta=beta)
    fisher = noise.precision(np.full(4, float(m)), difference)
    truth = np.linalg.inv(design.T @ (fisher[:, None] * design))
    wins = np.random.default_rng(0).binomial(
        m, 1 / (1 + np.exp(-beta * difference)), size=(draws, 4)
    )
    fits = bradley_terry(design, wins / m, beta)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        ends = np.eye(3)[i] - np.eye(3)[j]
        assert np.var(fits @ ends) == pytest.approx(ends @ truth @ ends, rel=0.1)


def test_it_is_the_error_of_a_reward_model_trained_on_the_labels() -> None:
    claimed, real = [], []
    for seed in range(24):
        generator = np.random.default_rng([seed, 31])
        phi = generator.normal(size=(2, 300, 8))
        prior = 2 * 8 / 4.0  # of a mean pair variance of 4
        truth = generator.normal(size=8) / np.sqrt(prior)
        wins = generator.random(300) < 1 / (1 + np.exp((phi[1] - phi[0]) @ truth))
        a, b = (np.where((wins == first)[:, None], *phi) for first in (True, False))
        head = np.zeros(8)
        for _ in range(20):
            s = 1 / (1 + np.exp((b - a) @ head))
            curvature = prior * np.eye(8) + (a - b).T @ ((s * (1 - s))[:, None] * (a - b))
            head += np.linalg.solve(curvature, (a - b).T @ (1 - s) - prior * head)
        state = RewardPrecision.of_comparisons(a, b, reward_winner=a @ head, reward_loser=b @ head)
        claimed.append(reward_posterior_variance(state).value)
        real.append(2 * np.sum((head - truth) ** 2))  # over fresh pairs
    error = np.std(real, ddof=1) / 24**0.5
    assert abs(np.mean(real) - np.mean(claimed)) < 3 * error
    assert error < 0.2 * np.mean(claimed)


def bradley_terry(
    design: npt.NDArray[np.float64], share: npt.NDArray[np.float64], beta: float
) -> npt.NDArray[np.float64]:
    """Return the maximum-likelihood rewards of every row of `share`, by Newton's method."""
    x = np.zeros((len(share), design.shape[1]))
    for _ in range(12):
        s = 1 / (1 + np.exp(-beta * x @ design.T))
        curvature = np.einsum("ei,te,ej->tij", design, beta**2 * s * (1 - s), design)
        slope = beta * (share - s) @ design
        x += np.linalg.solve(curvature, slope[..., None])[..., 0]
    return x


@pytest.mark.parametrize("form", ["bt_fisher", "logistic_var"])
def test_uncertainty_falls_as_comparisons_arrive(form: Any) -> None:
    steps = [10, 20, 40, 80, 160, 320]
    noise = EdgeNoise(form)
    curves = []
    for seed in range(24):
        data = rows(seed, m=320)
        parts = [
            RewardPrecision.of_comparisons(**{k: v[:m] for k, v in data.items()}, noise=noise)
            for m in steps
        ]
        curves.append([reward_posterior_variance(part).value for part in parts])
    falls = -np.diff(np.log(curves), axis=1)
    error = falls.std(axis=0, ddof=1) / 24**0.5
    assert np.all(falls.mean(axis=0) > 5 * error)


def test_comparisons_without_a_value() -> None:
    data = rows(4)
    nothing = RewardPrecision.zero(K)
    alike = RewardPrecision.of_comparisons(np.full((9, K), 3.3), np.full((9, K), 3.3))
    bare = RewardPrecision.of_comparisons(data["winner"], data["loser"])
    flat = RewardPrecision.of_comparisons(
        **data | {name: np.full(200, 0.1) for name in ("reward_winner", "reward_loser")}
    )
    huge = RewardPrecision(np.full((K, K), np.inf), bare.features, comparisons=200)
    cases = [(nothing, "n", "n"), (alike, "constant", "constant"), (huge, "nan", "nan")]
    for state, variance, ratio in [*cases, (bare, "", "rewards"), (flat, "", "constant")]:
        assert reward_posterior_variance(state).undefined == variance
        assert reward_uncertainty_ratio(state).undefined == ratio
    with pytest.raises(ValueError, match="prior_variance"):
        reward_posterior_variance(bare, prior_variance=0.0)
    with pytest.raises(ValueError, match="prior_precision"):
        RewardPosterior.of_precision(np.eye(2), 0.0)
