"""The registry's metrics of reward events."""

from __future__ import annotations

from typing import Final

from infoplane.collector.metrics import rewards as r
from infoplane.collector.metrics.event_needs import (
    ComparedEmbeddings,
    PreferenceEvents,
    RolloutEvents,
)
from infoplane.collector.metrics.metric import Compute, Metric, Source

_TOPOLOGY: Final = 9  # Qiu et al., Reward Generalization in RLHF: A Topological Perspective


def _of_preferences(
    name: str, unit: str, source: Source, meaning: str, reading: str = ""
) -> Metric:
    return Metric(name, unit, meaning, ("stream",), (source,), papers=(_TOPOLOGY,), reading=reading)


def _posterior(compute: Compute) -> Source:
    need = ComparedEmbeddings(whole_history=True)
    return Source("reward_posterior", need, compute, options=r.POSTERIOR_OPTIONS)


def _graph(compute: Compute) -> Source:
    return Source("graph", PreferenceEvents(whole_history=True), compute)


REWARD_METRICS: Final[tuple[Metric, ...]] = (
    _of_preferences(
        "reward_posterior_variance_mean",
        "1",
        _posterior(r.posterior_variance),
        "Mean posterior variance of the reward difference of two random compared responses, in squared rewards, "
        "given the kept comparisons; at 4 / beta^2 the labels say nothing.",
        "Falls about as 4 k / comparisons. A rise means that responses moved to where no labels are. Without "
        "scores it is a lower bound.",
    ),
    _of_preferences(
        "reward_uncertainty_ratio",
        "ratio",
        _posterior(r.uncertainty_ratio),
        "Mean posterior variance of a reward difference over the mean squared difference of the reward model's scores "
        "on the same responses.",
        "Above about 0.5 the comparisons do not carry the differences that the scores claim. May "
        "exceed 1. Scores that inflate make labels say less, so the variance alone may rise.",
    ),
    _of_preferences(
        "reward_graph_nodes",
        "1",
        _graph(r.graph_node_count),
        "Distinct responses among the kept comparisons.",
        "Grows by two a comparison where each brings fresh responses, less where responses are compared again.",
    ),
    _of_preferences(
        "reward_graph_edges",
        "1",
        _graph(r.graph_edge_count),
        "Distinct pairs of responses among the kept comparisons.",
        "Fewer than comparisons: pairs are labelled again.",
    ),
    _of_preferences(
        "reward_graph_components",
        "1",
        _graph(r.graph_component_count),
        "Groups of responses that the kept comparisons connect.",
        "One a prompt is the least there can be, as rewards compare within a prompt only.",
    ),
    _of_preferences(
        "reward_graph_cycle_rank",
        "1",
        _graph(r.graph_cycles),
        "Independent cycles among the kept comparisons, edges - nodes + components.",
        "Zero: nothing contradicts and nothing corroborates.",
    ),
    _of_preferences(
        "reward_graph_giant_component_ratio",
        "ratio",
        _graph(r.graph_giant_share),
        "Share of the responses that lie in the largest connected group.",
        "Near 0 is normal with many prompts; within one prompt, below 0.8 asks for bridging comparisons.",
    ),
    _of_preferences(
        "preference_cyclic_inconsistency_ratio",
        "ratio",
        Source(
            "hodge_rank",
            PreferenceEvents(whole_history=False),
            r.inconsistency,
            options=r.INCONSISTENCY_OPTIONS,
        ),
        "Share of the energy of the window's preferences that no reward can explain (HodgeRank residual).",
        "0 consistent, 1 purely cyclic. Judge it against its null, labels drawn by a coin: below it raters "
        "agree on an order, above it they contradict themselves in circles. A minority of cyclic raters raises it "
        "without passing the null: watch its own past too. `tree`: there is no cycle to judge.",
    ),
    Metric(
        "rollout_entropy_nats",
        "nats",
        "Mean entropy of the policy per token of its rollouts, in nats.",
        ("stream",),
        (Source("rollout_mean", RolloutEvents("entropy"), r.rollout_entropy),),
        reading="Warn below 0.3 nats, act below 0.2; a drop of more than half since the first windows matters on any "
        "scale.",
    ),
    Metric(
        "rollout_kl_nats",
        "nats",
        "Mean over rollouts of log policy - log reference, in nats a response: the distance moved from the reference.",
        ("stream",),
        (Source("rollout_mean", RolloutEvents("reference_log_prob"), r.rollout_kl),),
        reading="Unbiased on the policy's own samples; a single window may be negative.",
    ),
    Metric(
        "rollout_reward_mean",
        "1",
        "Mean reward of the rollouts, as the reward model or the verifier scored them.",
        ("stream",),
        (Source("rollout_mean", RolloutEvents("reward"), r.rollout_reward),),
        reading="Rising while the uncertainty rises too is the sign of reward hacking.",
    ),
)
