"""Graphs and raters of known properties, shared by the tests of reward topology."""

from __future__ import annotations

from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest

from infoplane.estimators.rewards import ResponseGraph
from infoplane.estimators.state import EdgeMultiset


def edges_of(graph: nx.Graph) -> EdgeMultiset:
    """Return one comparison for every edge of a graph with nodes 0, 1, 2 ..."""
    pairs = np.array([edge[:2] for edge in graph.edges], dtype=np.uint64).reshape(-1, 2)
    return EdgeMultiset.of_comparisons(pairs[:, 0], pairs[:, 1])


def response_graph(graph: nx.Graph) -> ResponseGraph:
    """Return the same as a response graph; node n is index n where no node is isolated."""
    return ResponseGraph.of_edges(edges_of(graph))


def random_graph(seed: int, nodes: int = 40, mean_degree: float = 4.0) -> nx.Graph:
    """Return a connected random graph: a random tree and further edges."""
    generator = np.random.default_rng([seed, 11])
    graph = nx.Graph((int(generator.integers(0, i)), i) for i in range(1, nodes))
    while graph.number_of_edges() < mean_degree * nodes / 2:
        i, j = generator.integers(0, nodes, 2)
        if i != j:
            graph.add_edge(int(i), int(j))
    return graph


def rated_groups(
    seed: int,
    *,
    cyclic: float,
    groups: int = 300,
    size: int = 3,
    labels: int = 3,
    spread: float = 1.0,
) -> EdgeMultiset:
    """Return labels of all pairs within groups of responses.

    Args:
        seed: Of rewards, raters and labels.
        cyclic: Share of raters whose every response beats the next (size - 1) / 2 around a circle
            (rock, paper, scissors); the others follow Bradley and Terry.
        groups: Number of groups.
        size: Responses of each, odd.
        labels: Labels of every pair, each by a rater of its own.
        spread: Standard deviation of the true rewards, in units of 1 / beta.
    """
    generator = np.random.default_rng([seed, 12])
    reward = generator.normal(size=(groups, size)) * spread
    first, second = np.triu_indices(size, 1)
    shape = (labels, groups, len(first))
    consistent = 1.0 / (1.0 + np.exp(reward[:, second] - reward[:, first]))
    around = second - first <= (size - 1) // 2
    wins = np.where(generator.random(shape) < cyclic, around, generator.random(shape) < consistent)
    base = size * np.arange(groups)[:, None]
    a, b = (np.broadcast_to(base + one, shape) for one in (first, second))
    return EdgeMultiset.of_comparisons(
        np.where(wins, a, b).ravel().astype(np.uint64),
        np.where(wins, b, a).ravel().astype(np.uint64),
    )


@pytest.fixture
def graphs() -> SimpleNamespace:
    """Return the generators above by name."""
    return SimpleNamespace(
        edges_of=edges_of,
        response_graph=response_graph,
        random_graph=random_graph,
        rated_groups=rated_groups,
    )
