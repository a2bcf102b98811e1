"""Metrics of preference and rollout events: inputs made of event columns, and one computation each.

Columns are those of docs/architecture.md, section 10. What a column's absence costs is said by the
estimate's `undefined`: ``"ids"`` (tokens.mode none), ``"features"``, ``"rewards"``, ``"entropy"``, ``"log_probs"``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoplane.collector.metrics.metric import Compute, Context
from infoplane.estimators import Estimate
from infoplane.estimators.estimate import Unit
from infoplane.estimators.rewards import ResponseGraph, graph, hodge, posterior
from infoplane.estimators.state import EdgeMultiset, EdgeNoise, RewardPrecision

FloatArray = NDArray[np.float64]

POSTERIOR_OPTIONS: Mapping[str, Any] = {
    "beta": 1.0,
    "edge_noise": "bt_fisher",
    "prior_variance": None,
}
"""Options of the posterior metrics; see `EdgeNoise` and `reward_posterior_variance`."""
INCONSISTENCY_OPTIONS: Mapping[str, Any] = {"permutations": 20}
"""Options of `inconsistency`: draws of the null."""

ROLLOUT_ESTIMATOR = "rollout_mean"
ROLLOUT_VERSION = 1
ROLLOUT_COLUMNS = ("reward", "entropy", "log_prob", "reference_log_prob", "tokens", "advantage")

# Odd, so that multiplying by it loses nothing: (prompt, response) and (response, prompt) differ.
_PROMPT_FACTOR = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Comparisons of two responses to one prompt, by row.

    Attributes:
        weight: shape ``(m,)``, float64.
        winner: id of the preferred (prompt, response), ``(m,)``, uint64; None without ids.
        loser: id of the other.
        reward_winner: the reward model's score, ``(m,)``, float64; None where not told.
        reward_loser: the same of the other.
        features_winner: pooled embedding, ``(m, k)``, float32; None where not told.
        features_loser: the same of the other.
    """

    weight: FloatArray
    winner: NDArray[np.uint64] | None = None
    loser: NDArray[np.uint64] | None = None
    reward_winner: FloatArray | None = None
    reward_loser: FloatArray | None = None
    features_winner: NDArray[np.float32] | None = None
    features_loser: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of comparisons."""
        return len(self.weight)

    @cached_property
    def edges(self) -> EdgeMultiset | None:
        """The comparisons by pair; None without ids. Computed once for all metrics of an input."""
        if self.winner is None or self.loser is None:
            return None
        return EdgeMultiset.of_comparisons(self.winner, self.loser, self.weight)

    @cached_property
    def graph(self) -> ResponseGraph | None:
        """The graph of compared responses; None without ids."""
        return None if self.edges is None else ResponseGraph.of_edges(self.edges)


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Responses of the policy, by row: the float64 columns `(m,)` of section 10 that were told."""

    columns: Mapping[str, FloatArray]

    def __len__(self) -> int:
        """Return the number of responses."""
        return len(next(iter(self.columns.values()), ()))


def comparisons_of(columns: Mapping[str, NDArray[Any]]) -> Comparisons | None:
    """Return the comparisons in the columns of `preferences` events; None when there are none.

    The same text may answer many prompts, and rewards compare within one only: a node is a
    response to a prompt, so the hash of the prompt, where told, is mixed into the response's.
    """
    told = {name: np.asarray(column) for name, column in columns.items()}
    names = ("weight", "chosen", "reward_chosen", "features_chosen")
    rows = next((told[name] for name in names if name in told), None)
    if rows is None:
        return None
    weight = told.get("weight", np.ones(len(rows)))
    return Comparisons(
        weight.astype(np.float64, copy=False),
        *_pair(told, "chosen", "rejected", lambda ids: _node_ids(ids, told.get("prompt"))),
        *_pair(told, "reward_chosen", "reward_rejected", lambda one: one.astype(np.float64)),
        *_pair(told, "features_chosen", "features_rejected", lambda one: one.astype(np.float32)),
    )


def rollouts_of(columns: Mapping[str, NDArray[Any]]) -> Rollouts | None:
    """Return the rollouts in the columns of `rollouts` events; None when no known column is there."""
    known = {
        name: np.asarray(columns[name], np.float64) for name in ROLLOUT_COLUMNS if name in columns
    }
    return Rollouts(known) if known else None


def posterior_variance(inputs: Sequence[Comparisons], context: Context) -> list[Estimate]:
    """Mean posterior variance of a reward difference, reward^2 (feature form)."""
    return [_posterior(one, context, "1", posterior.reward_posterior_variance) for one in inputs]


def uncertainty_ratio(inputs: Sequence[Comparisons], context: Context) -> list[Estimate]:
    """Mean posterior variance over the mean squared reward difference of the same responses."""
    return [_posterior(one, context, "ratio", posterior.reward_uncertainty_ratio) for one in inputs]


def _of_graph(unit: Unit, estimator: Callable[[ResponseGraph], Estimate]) -> Compute:
    def compute(inputs: Sequence[Comparisons], context: Context) -> list[Estimate]:
        return [
            _missing("ids", unit, len(one), graph.ESTIMATOR, graph.VERSION)
            if one.graph is None
            else estimator(one.graph)
            for one in inputs
        ]

    return compute


graph_node_count = _of_graph("1", graph.graph_nodes)
"""Distinct responses that were compared."""
graph_edge_count = _of_graph("1", graph.graph_edges)
"""Distinct pairs that were compared."""
graph_component_count = _of_graph("1", graph.graph_components)
"""Groups of responses that comparisons connect."""
graph_cycles = _of_graph("1", graph.graph_cycle_rank)
"""Independent cycles of comparisons."""
graph_giant_share = _of_graph("ratio", graph.graph_giant_component_ratio)
"""Share of responses in the largest group."""


def inconsistency(inputs: Sequence[Comparisons], context: Context) -> list[Estimate]:
    """Cyclic share of the energy of preferences, with the null of labels drawn by a coin."""
    options = {**INCONSISTENCY_OPTIONS, **context.options}
    return [
        _missing("ids", "ratio", len(one), hodge.ESTIMATOR, hodge.VERSION)
        if one.edges is None
        else hodge.preference_inconsistency(
            one.edges, permutations=options["permutations"], seed=seed
        )
        for one, seed in zip(inputs, context.seeds, strict=True)
    ]


def rollout_entropy(inputs: Sequence[Rollouts], context: Context) -> list[Estimate]:
    """Mean entropy of the policy per token, nats: responses weigh by their tokens where told."""
    return [
        _mean(one.columns.get("entropy"), "nats", "entropy", len(one), one.columns.get("tokens"))
        for one in inputs
    ]


def rollout_kl(inputs: Sequence[Rollouts], context: Context) -> list[Estimate]:
    """Mean over responses of log pi - log pi_ref, nats a response: an unbiased estimate of KL."""
    estimates = []
    for one in inputs:
        policy, reference = one.columns.get("log_prob"), one.columns.get("reference_log_prob")
        ratio = None
        if policy is not None and reference is not None:
            with np.errstate(invalid="ignore"):  # inf - inf is the estimate's "nan"
                ratio = policy - reference
        estimates.append(_mean(ratio, "nats", "log_probs", len(one)))
    return estimates


def rollout_reward(inputs: Sequence[Rollouts], context: Context) -> list[Estimate]:
    """Mean reward of the responses."""
    return [_mean(one.columns.get("reward"), "1", "rewards", len(one)) for one in inputs]


def _pair(
    told: Mapping[str, NDArray[Any]],
    first: str,
    second: str,
    convert: Callable[[NDArray[Any]], NDArray[Any]],
) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    if first not in told or second not in told:
        return None, None
    return convert(told[first]), convert(told[second])


def _node_ids(responses: NDArray[Any], prompts: NDArray[Any] | None) -> NDArray[np.uint64]:
    ids = responses.astype(np.uint64)
    return ids if prompts is None else ids + prompts.astype(np.uint64) * _PROMPT_FACTOR


def _posterior(
    one: Comparisons, context: Context, unit: Unit, estimator: Callable[..., Estimate]
) -> Estimate:
    options = {**POSTERIOR_OPTIONS, **context.options}
    if one.features_winner is None or one.features_loser is None:
        return _missing("features", unit, len(one), posterior.ESTIMATOR, posterior.VERSION)
    state = RewardPrecision.of_comparisons(
        one.features_winner,
        one.features_loser,
        weight=one.weight,
        reward_winner=one.reward_winner,
        reward_loser=one.reward_loser,
        noise=EdgeNoise(options["edge_noise"], options["beta"]),
    )
    return estimator(state, prior_variance=options["prior_variance"])


def _mean(
    values: FloatArray | None, unit: Unit, absent: str, n: int, weight: FloatArray | None = None
) -> Estimate:
    """Return the weighted mean with 1.96 standard errors (of a ratio, to first order) as band."""
    if values is None:
        return _missing(absent, unit, n)
    w = np.ones(len(values)) if weight is None else weight
    if not (np.isfinite(values).all() and np.isfinite(w).all()):
        return _missing("nan", unit, n)
    values, w = values[w > 0], w[w > 0]
    if len(values) < 2:
        return _missing("n", unit, len(values))
    share = w / w.sum()
    mean = float(share @ values)
    spread = float(np.sum(np.square(share * (values - mean)))) * len(values) / (len(values) - 1)
    half = 1.96 * spread**0.5
    band = (mean - half, mean + half)
    return Estimate(mean, unit, len(values), ROLLOUT_ESTIMATOR, ROLLOUT_VERSION, band=band)


def _missing(
    reason: str,
    unit: Unit,
    n: int,
    estimator: str = ROLLOUT_ESTIMATOR,
    version: int = ROLLOUT_VERSION,
) -> Estimate:
    return Estimate.missing(reason, unit=unit, n=n, estimator=estimator, version=version)
