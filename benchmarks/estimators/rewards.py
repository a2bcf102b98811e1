"""Cost of the reward metrics, and how many cyclic raters the null lets pass.

Run: OMP_NUM_THREADS=1 python benchmarks/estimators/rewards.py
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from infoplane.collector.metrics import rewards
from infoplane.collector.metrics.metric import Context
from infoplane.estimators.rewards import mean_resistance, preference_inconsistency
from infoplane.estimators.state import EdgeMultiset, EdgeNoise

METRICS = {
    "reward_posterior_variance_mean": rewards.posterior_variance,
    "reward_uncertainty_ratio": rewards.uncertainty_ratio,
    "reward_graph_nodes (and the graph)": rewards.graph_node_count,
    "reward_graph_edges": rewards.graph_edge_count,
    "reward_graph_components": rewards.graph_component_count,
    "reward_graph_cycle_rank": rewards.graph_cycles,
    "reward_graph_giant_component_ratio": rewards.graph_giant_share,
    "preference_cyclic_inconsistency_ratio": rewards.inconsistency,
}


def cost(nodes: int, comparisons: int, k: int) -> None:
    generator = np.random.default_rng(0)
    winner, loser = generator.integers(0, nodes, (2, comparisons)).astype(np.uint64)
    one = rewards.Comparisons(
        np.ones(comparisons),
        winner,
        loser,
        *generator.normal(size=(2, comparisons)),
        *generator.normal(size=(2, comparisons, k)).astype(np.float32),
    )
    print(f"{comparisons} comparisons of {nodes} responses, k = {k}: processor seconds")
    total = 0.0
    for name, compute in METRICS.items():
        start = time.process_time()
        (found,) = compute([one], Context("cpu", [0]))
        spent = time.process_time() - start
        total += spent
        print(f"  {name:40} {spent:7.3f}   value {found.value:.4g} {found.undefined}")
    start = time.process_time()
    assert one.graph is not None
    assert one.edges is not None
    found = mean_resistance(one.graph, EdgeNoise().precision(one.edges.weight))
    print(f"  {'all':40} {total:7.3f}")
    print(f"  {'mean_resistance (not a metric)':40} {time.process_time() - start:7.3f}")


def rated(seed: int, cyclic: float, size: int, labels: int, spread: float) -> EdgeMultiset:
    """Return labels of all pairs in 300 groups; see `rated_groups` in tests/estimators/rewards."""
    generator = np.random.default_rng([seed, 12])
    reward = generator.normal(size=(300, size)) * spread
    first, second = np.triu_indices(size, 1)
    shape = (labels, 300, len(first))
    consistent = 1.0 / (1.0 + np.exp(reward[:, second] - reward[:, first]))
    around = second - first <= (size - 1) // 2
    wins = np.where(generator.random(shape) < cyclic, around, generator.random(shape) < consistent)
    base = size * np.arange(300)[:, None]
    a, b = (np.broadcast_to(base + one, shape) for one in (first, second))
    return EdgeMultiset.of_comparisons(
        np.where(wins, a, b).ravel().astype(np.uint64),
        np.where(wins, b, a).ravel().astype(np.uint64),
    )


def raters(seeds: int) -> None:
    shares = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
    print(f"mean value (mean deviations from the null), {seeds} seeds, cyclic share {shares}")
    for size, labels, spread in ((3, 1, 1), (3, 3, 1), (3, 3, 3), (5, 1, 1), (5, 3, 1), (5, 9, 3)):
        cells, nulls = [], []
        for share in shares:
            found = [
                preference_inconsistency(rated(seed, share, size, labels, spread), seed=seed)
                for seed in range(seeds)
            ]
            apart = [(e.value - (e.null_mean or 0)) / (e.null_sd or np.nan) for e in found]
            nulls += [e.null_mean for e in found]
            cells.append(f"{np.mean([e.value for e in found]):.2f} ({np.mean(apart):+.0f})")
        print(
            f"  groups of {size}, {labels} labels, spread {spread}: ",
            *cells,
            f"null {np.mean(nulls):.2f}",
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    for nodes in (10_000, 40_000, 80_000):
        cost(nodes, 50_000, 64)
    cost(10_000, 50_000, 256)
    raters(arguments.seeds)
