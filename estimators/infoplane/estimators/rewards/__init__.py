"""Reward topology: what comparisons of responses say about rewards, and how far they agree.

After Qiu et al., "Reward Generalization in RLHF: A Topological Perspective": responses are nodes,
comparisons are edges whose variances add along paths, and the variance of a reward difference
given the data measures how well preferences are encoded. The reward model's own embeddings
(`posterior`) or the graph of response ids (`graph`, `resistance`) give that variance; `hodge`
says how much of the preferences no reward can explain.
"""

from infoplane.estimators.rewards.graph import (
    ResponseGraph,
    graph_components,
    graph_cycle_rank,
    graph_edges,
    graph_giant_component_ratio,
    graph_nodes,
)
from infoplane.estimators.rewards.hodge import cyclic_energy_ratio, preference_inconsistency
from infoplane.estimators.rewards.posterior import (
    RewardPosterior,
    reward_posterior_variance,
    reward_uncertainty_ratio,
)
from infoplane.estimators.rewards.resistance import mean_resistance, resistance_matrix

__all__ = [
    "ResponseGraph",
    "RewardPosterior",
    "cyclic_energy_ratio",
    "graph_components",
    "graph_cycle_rank",
    "graph_edges",
    "graph_giant_component_ratio",
    "graph_nodes",
    "mean_resistance",
    "preference_inconsistency",
    "resistance_matrix",
    "reward_posterior_variance",
    "reward_uncertainty_ratio",
]
