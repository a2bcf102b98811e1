"""Sparse solves: both ways give what the pseudo-inverse gives."""

from __future__ import annotations

from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest

from infoplane.estimators.rewards import laplacian as module
from infoplane.estimators.rewards.laplacian import incidence, laplacian, solve


@pytest.mark.parametrize("few_cycles", [0, 10**6], ids=["iterated", "factorised"])
@pytest.mark.parametrize("max_iterations", [5, 300])
def test_solutions_explain_the_right_hand_side(
    graphs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, few_cycles: int, max_iterations: int
) -> None:
    monkeypatch.setattr(module, "_FEW_CYCLES", few_cycles - 10**6)
    parts = [graphs.random_graph(i, nodes=30 + i) for i in range(3)]
    graph = graphs.response_graph(nx.disjoint_union_all(parts))
    generator = np.random.default_rng(0)
    weight = np.exp(generator.normal(size=graph.edges))
    matrix = laplacian(graph.nodes, graph.tail, graph.head, weight)
    rhs = incidence(graph.nodes, graph.tail, graph.head).T @ generator.normal(size=(graph.edges, 4))
    rhs[:, 2] = 0.0
    found = solve(matrix, rhs, tolerance=1e-10, max_iterations=max_iterations)
    truth = np.linalg.pinv(matrix.toarray()) @ rhs
    differences = incidence(graph.nodes, graph.tail, graph.head)
    np.testing.assert_allclose(differences @ found, differences @ truth, atol=1e-7)
    assert not (differences @ found[:, 2]).any()


def test_nothing_to_solve() -> None:
    none = np.zeros(0, np.int64)
    matrix = laplacian(0, none, none, np.zeros(0))
    assert solve(matrix, np.zeros((0, 3))).shape == (0, 3)
