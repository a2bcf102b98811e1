"""Counts of the graph of compared responses."""

from __future__ import annotations

from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest

from infoplane.estimators.rewards import (
    ResponseGraph,
    graph_components,
    graph_cycle_rank,
    graph_edges,
    graph_giant_component_ratio,
    graph_nodes,
)
from infoplane.estimators.state import EdgeMultiset


@pytest.mark.parametrize("seed", range(8))
def test_networkx_counts_the_same(graphs: SimpleNamespace, seed: int) -> None:
    graph = nx.gnm_random_graph(120, 30 + 20 * seed, seed=seed)
    graph.remove_nodes_from(list(nx.isolates(graph)))
    responses = graphs.response_graph(graph)
    parts = [len(part) for part in nx.connected_components(graph)]
    assert graph_nodes(responses).value == len(graph)
    assert graph_edges(responses).value == graph.number_of_edges()
    assert graph_components(responses).value == len(parts)
    assert graph_giant_component_ratio(responses).value == max(parts) / len(graph)
    assert graph_cycle_rank(responses).value == len(nx.cycle_basis(graph))
    core = {frozenset(map(int, pair)) for pair in nx.k_core(graph, 2).edges}
    kept = responses.cyclic_core()
    ends = responses.ids[np.stack([responses.tail, responses.head])]
    assert {frozenset(map(int, pair)) for pair in ends[:, kept].T} == core


def test_trees_have_no_core(graphs: SimpleNamespace) -> None:
    for graph in (nx.path_graph(50), nx.balanced_tree(3, 4), nx.Graph([(0, 1), (2, 3)])):
        responses = graphs.response_graph(graph)
        assert graph_cycle_rank(responses).value == 0
        assert not responses.cyclic_core().any()


def test_labels_of_one_pair_are_one_edge() -> None:
    labels = EdgeMultiset.of_comparisons(np.array([3, 8, 3]), np.array([8, 3, 9]))
    responses = ResponseGraph.of_edges(labels)
    assert responses.ids.tolist() == [3, 8, 9]
    found = graph_edges(responses)
    assert (found.value, found.n) == (2, 3)
    assert graph_nodes(responses).value == 3


def test_no_comparison() -> None:
    nothing = ResponseGraph.of_edges(EdgeMultiset.empty())
    for count in (graph_nodes, graph_edges, graph_components, graph_cycle_rank):
        assert (count(nothing).value, count(nothing).n) == (0, 0)
    assert graph_giant_component_ratio(nothing).undefined == "n"
    assert nothing.cyclic_core().shape == (0,)
