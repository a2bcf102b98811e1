"""Effective resistance: closed forms, theorems, Monte Carlo, networkx."""

from __future__ import annotations

from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest

from infoplane.estimators.rewards import ResponseGraph, mean_resistance, resistance_matrix
from infoplane.estimators.state import EdgeMultiset, EdgeNoise

N = 1000


@pytest.mark.parametrize(
    ("graph", "truth"),
    [
        (nx.path_graph(N), (N + 1) / 3),
        (nx.star_graph(N - 1), 2 * (N - 1) / N),
        (nx.cycle_graph(N), (N + 1) / 6),
        (nx.complete_graph(N), 2 / N),
    ],
    ids=["path", "star", "cycle", "complete"],
)
def test_closed_forms(graphs: SimpleNamespace, graph: nx.Graph, truth: float) -> None:
    responses = graphs.response_graph(graph)
    unit = np.ones(responses.edges)
    exact = mean_resistance(responses, unit, exact_nodes=N)
    assert exact.value == pytest.approx(truth, rel=1e-9)
    assert exact.band is None
    probed = mean_resistance(responses, unit, seed=3)
    assert probed.band is not None
    rounding = 1e-9 * truth  # probes of the complete graph all give the truth
    assert probed.band[0] - rounding < truth < probed.band[1] + rounding


@pytest.mark.parametrize(
    ("branching", "height", "leaves", "nodes"),
    [
        (2, 9, 16.0352, 14.0666),
        (3, 6, 11.0165, 10.0266),
        (10, 3, 5.7838, 5.5627),
        (31, 2, 3.9375, 3.8711),
    ],
)
def test_balanced_trees(
    graphs: SimpleNamespace, branching: int, height: int, leaves: float, nodes: float
) -> None:
    responses = graphs.response_graph(nx.balanced_tree(branching, height))
    unit = np.ones(responses.edges)
    everywhere = mean_resistance(responses, unit, exact_nodes=2000).value
    assert everywhere == pytest.approx(nodes, abs=5e-5)
    count = branching**height
    among = resistance_matrix(responses, unit)[-count:, -count:]
    assert among.sum() / (count * (count - 1)) == pytest.approx(leaves, abs=5e-5)


@pytest.mark.parametrize("seed", range(5))
def test_networkx_agrees(graphs: SimpleNamespace, seed: int) -> None:
    graph = graphs.random_graph(seed)
    generator = np.random.default_rng(seed)
    responses = graphs.response_graph(graph)
    precision = np.exp(generator.normal(size=responses.edges))
    for i, j, w in zip(responses.tail, responses.head, precision, strict=True):
        graph[int(i)][int(j)]["weight"] = w
    ours = resistance_matrix(responses, precision)
    theirs = nx.resistance_distance(graph, weight="weight", invert_weight=False)
    for i in graph:
        np.testing.assert_allclose(ours[i], [theirs[i][j] for j in range(len(graph))], atol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_foster_and_kirchhoff(graphs: SimpleNamespace, seed: int) -> None:
    parts = [graphs.random_graph(3 * seed + i, nodes=12 + i) for i in range(3)]
    responses = graphs.response_graph(nx.disjoint_union_all(parts))
    precision = np.exp(np.random.default_rng(seed).normal(size=responses.edges))
    resistance = resistance_matrix(responses, precision)
    over_edges = np.sum(precision * resistance[responses.tail, responses.head])
    assert over_edges == pytest.approx(responses.nodes - 3, rel=1e-9)
    assert np.isnan(resistance[0, -1])
    total = pairs = 0.0
    for component in range(3):
        (place,) = np.nonzero(responses.component == component)
        inside = responses.component[responses.tail] == component
        matrix = np.zeros((responses.nodes,) * 2)
        i, j = responses.tail[inside], responses.head[inside]
        matrix[i, j] = matrix[j, i] = -precision[inside]
        np.fill_diagonal(matrix, -matrix.sum(axis=1))
        spectrum = np.linalg.eigvalsh(matrix[np.ix_(place, place)])[1:]
        n = len(place)
        kirchhoff = n * float(np.sum(1.0 / spectrum))
        assert np.sum(resistance[np.ix_(place, place)]) / 2 == pytest.approx(kirchhoff, rel=1e-9)
        total, pairs = total + kirchhoff, pairs + n * (n - 1) / 2
    assert mean_resistance(responses, precision).value == pytest.approx(total / pairs, rel=1e-9)
    probed = mean_resistance(responses, precision, exact_nodes=12, probes=64, seed=seed)
    assert probed.value == pytest.approx(total / pairs, rel=0.15)


@pytest.mark.parametrize("seed", range(5))
def test_an_edge_never_raises_a_variance(graphs: SimpleNamespace, seed: int) -> None:
    graph = graphs.random_graph(seed)
    before = graphs.response_graph(graph)
    more = graph.copy()
    more.add_edge(*next(iter(nx.non_edges(graph))))
    after = graphs.response_graph(more)
    left = resistance_matrix(before, np.ones(before.edges))
    right = resistance_matrix(after, np.ones(after.edges))
    assert np.all(right <= left + 1e-9)
    assert right.sum() < left.sum()


def test_parallel_labels_share_the_variance() -> None:
    labels = EdgeMultiset.of_comparisons(np.array([1, 2, 1, 1, 2]), np.array([2, 1, 2, 2, 1]))
    noise = EdgeNoise()
    one = 1.0 / noise.precision(np.ones(1))[0]
    found = mean_resistance(ResponseGraph.of_edges(labels), noise.precision(labels.weight))
    assert one == pytest.approx(4.0)
    assert found.value == pytest.approx(one / 5)


def test_it_is_the_variance_of_a_reward_difference(graphs: SimpleNamespace) -> None:
    graph = graphs.random_graph(4, nodes=20)
    responses = graphs.response_graph(graph)
    variance = np.exp(np.random.default_rng(1).normal(size=responses.edges))
    resistance = resistance_matrix(responses, 1.0 / variance)
    # Least squares of noisy readings of the differences, true rewards zero.
    noise = np.random.default_rng(2).normal(size=(20_000, responses.edges)) * np.sqrt(variance)
    design = np.zeros((responses.edges, 20))
    design[np.arange(responses.edges), responses.tail] = 1.0
    design[np.arange(responses.edges), responses.head] = -1.0
    root = 1.0 / np.sqrt(variance)
    fit = (noise * root) @ np.linalg.pinv(design * root[:, None]).T
    for i, j in ((0, 1), (3, 17), (8, 19)):
        # The standard error of a variance from 20,000 draws is 1 %.
        assert np.var(fit[:, i] - fit[:, j]) == pytest.approx(resistance[i, j], rel=0.04)


def test_a_large_mixed_graph_is_probed_well() -> None:
    generator = np.random.default_rng(0)
    pairs = generator.integers(0, 1200, (2, 3600)).astype(np.uint64)
    responses = ResponseGraph.of_edges(EdgeMultiset.of_comparisons(*pairs))
    unit = np.ones(responses.edges)
    exact = mean_resistance(responses, unit, exact_nodes=1200).value
    probed = mean_resistance(responses, unit, seed=1)
    assert probed.value == pytest.approx(exact, rel=0.03)
    assert probed == mean_resistance(responses, unit, seed=1)


def test_no_comparison_has_no_mean(graphs: SimpleNamespace) -> None:
    nothing = ResponseGraph.of_edges(EdgeMultiset.empty())
    assert mean_resistance(nothing, np.zeros(0)).undefined == "n"
    assert resistance_matrix(nothing, np.zeros(0)).shape == (0, 0)
    with pytest.raises(ValueError, match="probes"):
        mean_resistance(nothing, np.zeros(0), probes=1)
