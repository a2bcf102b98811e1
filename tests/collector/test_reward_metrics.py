"""Metrics of preference and rollout events: from columns to estimates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infoplane.collector.metrics import rewards
from infoplane.collector.metrics.metric import Compute, Context
from infoplane.estimators import Estimate
from infoplane.estimators.rewards import preference_inconsistency
from infoplane.estimators.state import EdgeMultiset

M, K = 60, 4
OF_IDS: list[tuple[Compute, str]] = [
    (rewards.graph_node_count, "1"),
    (rewards.graph_edge_count, "1"),
    (rewards.graph_component_count, "1"),
    (rewards.graph_cycles, "1"),
    (rewards.graph_giant_share, "ratio"),
    (rewards.inconsistency, "ratio"),
]


def columns(*left_out: str) -> dict[str, Any]:
    """Return the columns of a table of `preferences` events."""
    generator = np.random.default_rng(0)
    chosen = generator.integers(1, 12, M).astype(np.uint64)
    told = {
        "prompt": np.full(M, 2**63 + 5, np.uint64),
        "chosen": chosen,
        "rejected": chosen % np.uint64(12) + generator.integers(1, 4, M).astype(np.uint64),
        "rater": np.zeros(M, np.uint64),
        "weight": np.ones(M),
        "reward_chosen": generator.normal(size=M),
        "reward_rejected": generator.normal(size=M),
        "features_chosen": generator.normal(size=(M, K)).astype(np.float32),
        "features_rejected": generator.normal(size=(M, K)).astype(np.float32),
    }
    return {name: column for name, column in told.items() if name not in left_out}


def comparisons(*left_out: str) -> rewards.Comparisons:
    found = rewards.comparisons_of(columns(*left_out))
    assert found is not None
    return found


def one(compute: Compute, value: Any, **options: Any) -> Estimate:
    (estimate,) = compute([value], Context("cpu", [7], options))
    return estimate


def test_every_metric_of_full_events_has_a_value() -> None:
    full = comparisons()
    for compute, unit in [
        *OF_IDS,
        (rewards.posterior_variance, "1"),
        (rewards.uncertainty_ratio, "ratio"),
    ]:
        found = one(compute, full)
        assert (found.undefined, found.unit) == ("", unit)
        assert np.isfinite(found.value)
    assert len(full) == M
    assert full.graph is full.graph  # built once for all metrics of an input


def test_answers_follow_their_inputs() -> None:
    inputs = [comparisons(), comparisons("chosen"), comparisons()]
    found = rewards.inconsistency(inputs, Context("cpu", [1, 2, 3], {"permutations": 5}))
    assert [one.undefined for one in found] == ["", "ids", ""]
    assert found[0].value == pytest.approx(found[2].value)
    assert found[0].null_mean != found[2].null_mean
    assert found[0].parameters == {"permutations": 5}


def test_columns_that_are_not_told() -> None:
    no_ids = comparisons("prompt", "chosen", "rejected", "rater")
    for compute, unit in OF_IDS:
        found = one(compute, no_ids)
        assert (found.undefined, found.unit, found.n) == ("ids", unit, M)
    assert one(rewards.posterior_variance, no_ids).defined
    no_features = comparisons("features_chosen")
    for compute in (rewards.posterior_variance, rewards.uncertainty_ratio):
        assert one(compute, no_features).undefined == "features"
    no_rewards = comparisons("reward_rejected")
    assert one(rewards.posterior_variance, no_rewards).defined
    assert one(rewards.uncertainty_ratio, no_rewards).undefined == "rewards"
    assert rewards.comparisons_of({}) is None
    assert rewards.comparisons_of({"rater": np.zeros(3)}) is None
    unweighted = comparisons("weight")
    assert unweighted.weight.tolist() == [1.0] * M


def test_a_node_is_a_response_to_a_prompt() -> None:
    # The same two texts answer two prompts, and are ranked the other way round.
    table = columns()
    table |= {
        "prompt": np.array([1, 2], np.uint64),
        "chosen": np.array([10, 20], np.uint64),
        "rejected": np.array([20, 10], np.uint64),
        "weight": np.ones(2),
    }
    found = rewards.comparisons_of(table)
    assert one(rewards.graph_node_count, found).value == 4
    assert one(rewards.graph_component_count, found).value == 2
    del table["prompt"]
    found = rewards.comparisons_of(table)
    assert one(rewards.graph_node_count, found).value == 2


def test_the_graph_does_not_depend_on_the_prompts_hash() -> None:
    told, bare = comparisons(), comparisons("prompt")
    for compute, _ in OF_IDS[:-1]:
        assert one(compute, told).value == one(compute, bare).value
    table = columns()
    edges = EdgeMultiset.of_comparisons(table["chosen"], table["rejected"])
    assert one(rewards.inconsistency, told).value == pytest.approx(
        preference_inconsistency(edges).value, abs=1e-9
    )


def test_options_reach_the_posterior() -> None:
    full = comparisons()
    base = one(rewards.posterior_variance, full)
    assert base.parameters == {
        "k": K,
        "prior_variance": 4.0,
        "beta": 1.0,
        "edge_noise": "bt_fisher",
    }
    other = one(
        rewards.posterior_variance, full, edge_noise="logistic_var", beta=2.0, prior_variance=4.0
    )
    assert other.parameters["edge_noise"] == "logistic_var"
    assert other.value < base.value


def rollouts(**told: Any) -> rewards.Rollouts:
    found = rewards.rollouts_of({name: np.asarray(column) for name, column in told.items()})
    assert found is not None
    return found


def test_means_of_rollouts() -> None:
    generator = np.random.default_rng(1)
    reward, entropy, log_prob, reference = generator.normal(size=(4, 500))
    told = rollouts(
        reward=reward, entropy=entropy, log_prob=log_prob, reference_log_prob=reference, prompt=[1]
    )
    for compute, unit, values in (
        (rewards.rollout_reward, "1", reward),
        (rewards.rollout_entropy, "nats", entropy),
        (rewards.rollout_kl, "nats", log_prob - reference),
    ):
        found = one(compute, told)
        assert (found.unit, found.n) == (unit, 500)
        assert found.value == pytest.approx(values.mean())
        half = 1.96 * values.std(ddof=1) / 500**0.5
        assert found.band == pytest.approx((found.value - half, found.value + half))


def test_entropy_weighs_by_tokens() -> None:
    found = one(
        rewards.rollout_entropy, rollouts(entropy=[1.0, 3.0, 9.0], tokens=[30.0, 10.0, 0.0])
    )
    assert (found.value, found.n) == (1.5, 2)
    even = rollouts(entropy=[1.0, 2.0, 4.0], tokens=[7.0, 7.0, 7.0])
    assert one(rewards.rollout_entropy, even).band == pytest.approx(
        one(rewards.rollout_entropy, rollouts(entropy=[1.0, 2.0, 4.0])).band
    )


def test_rollouts_without_a_value() -> None:
    told = rollouts(tokens=[3.0, 4.0])
    for compute, reason in (
        (rewards.rollout_reward, "rewards"),
        (rewards.rollout_entropy, "entropy"),
        (rewards.rollout_kl, "log_probs"),
    ):
        found = one(compute, told)
        assert (found.undefined, found.n) == (reason, 2)
    assert one(rewards.rollout_reward, rollouts(reward=[1.0])).undefined == "n"
    odd = rollouts(log_prob=[np.inf, 1.0], reference_log_prob=[np.inf, 1.0], reward=[np.nan, 1.0])
    for compute in (rewards.rollout_reward, rewards.rollout_kl):
        assert one(compute, odd).undefined == "nan"
    silent = rollouts(entropy=[1.0, 2.0], tokens=[0.0, 0.0])
    assert one(rewards.rollout_entropy, silent).undefined == "n"
    assert rewards.rollouts_of({"prompt": np.zeros(3)}) is None
