"""Cyclic inconsistency of preferences: exact triangles, the null, planted raters."""

from __future__ import annotations

from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest

from infoplane.estimators.rewards import (
    ResponseGraph,
    cyclic_energy_ratio,
    preference_inconsistency,
)
from infoplane.estimators.state import EdgeMultiset

TRIANGLE = np.array([0, 1, 2]), np.array([1, 2, 0])


def labels(*pairs: tuple[int, int]) -> EdgeMultiset:
    winner, loser = np.array(pairs, dtype=np.uint64).T
    return EdgeMultiset.of_comparisons(winner, loser)


@pytest.mark.parametrize(("flow", "ratio"), [((1, 1, 1), 1.0), ((1, 2, -3), 0.0), ((2, 1, 0), 0.6)])
def test_triangles(flow: tuple[float, ...], ratio: float) -> None:
    tail, head = TRIANGLE
    flows = np.array([flow, flow], dtype=float) * [[1.0], [7.0]]
    found = cyclic_energy_ratio(tail, head, flows, np.ones(3))
    np.testing.assert_allclose(found, ratio, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_least_squares_agree(graphs: SimpleNamespace, seed: int) -> None:
    graph = graphs.response_graph(graphs.random_graph(seed))
    generator = np.random.default_rng(seed)
    weight = np.exp(generator.normal(size=graph.edges))
    flows = generator.normal(size=(3, graph.edges))
    design = np.zeros((graph.edges, graph.nodes))
    design[np.arange(graph.edges), graph.tail] = 1.0
    design[np.arange(graph.edges), graph.head] = -1.0
    root = np.sqrt(weight)
    for flow, found in zip(
        flows, cyclic_energy_ratio(graph.tail, graph.head, flows, weight), strict=True
    ):
        potential = np.linalg.lstsq(design * root[:, None], root * flow, rcond=None)[0]
        left = weight @ (flow - design @ potential) ** 2
        assert found == pytest.approx(left / (weight @ flow**2), abs=1e-9)


def test_a_flow_of_nothing_has_no_ratio() -> None:
    tail, head = TRIANGLE
    assert np.isnan(cyclic_energy_ratio(tail, head, np.zeros((1, 3)), np.ones(3))).all()


def test_triangles_of_labels() -> None:
    cyclic, ordered = ((1, 2), (2, 3), (3, 1)), ((1, 2), (2, 3), (1, 3))
    for times in (1, 4):
        found = preference_inconsistency(labels(*(times * cyclic)))
        assert found.value == pytest.approx(1.0, abs=1e-12)
        assert found.n == 3 * times
        found = preference_inconsistency(labels(*(times * ordered)))
        assert found.value == pytest.approx(1 / 9, abs=1e-12)


def test_edges_on_no_cycle_do_not_dilute() -> None:
    cyclic = ((1, 2), (2, 3), (3, 1))
    tail = tuple((i, i + 1) for i in range(3, 40))
    found = preference_inconsistency(labels(*cyclic, *tail))
    assert found.value == pytest.approx(1.0, abs=1e-12)
    assert found.n == 3


def test_the_null_of_single_labels_is_the_share_of_cycles(graphs: SimpleNamespace) -> None:
    edges = graphs.edges_of(graphs.random_graph(0, nodes=300))
    graph = ResponseGraph.of_edges(edges)
    found = preference_inconsistency(edges, permutations=200, seed=1)
    assert found.null_mean is not None
    assert found.null_sd is not None
    truth = graph.cycle_rank / graph.cyclic_core().sum()
    assert found.null_mean == pytest.approx(truth, abs=4 * found.null_sd / 200**0.5)


def distance(edges: EdgeMultiset) -> float:
    """Return how many standard deviations the value lies above the null."""
    found = preference_inconsistency(edges, seed=3)
    assert found.null_mean is not None
    assert found.null_sd is not None
    return (found.value - found.null_mean) / found.null_sd


@pytest.mark.parametrize(("size", "labels_a_pair"), [(3, 1), (3, 3), (5, 1), (5, 3)])
def test_consistent_raters_lie_below_the_null_and_cyclic_ones_above(
    graphs: SimpleNamespace, size: int, labels_a_pair: int
) -> None:
    def rated(cyclic: float, **other: float) -> EdgeMultiset:
        found: EdgeMultiset = graphs.rated_groups(
            size, cyclic=cyclic, size=size, labels=labels_a_pair, **other
        )
        return found

    assert distance(rated(0.0, spread=2.0)) < -5.0
    assert abs(distance(rated(0.0, spread=0.0))) < 4.0  # coins: the null itself
    assert distance(rated(0.75)) > 5.0
    assert distance(rated(1.0)) > 20.0
    assert preference_inconsistency(rated(1.0)).value == pytest.approx(1.0, abs=1e-9)


def test_half_of_the_raters_suffice_while_preferences_are_moderate(
    graphs: SimpleNamespace,
) -> None:
    for size in (3, 5):
        assert distance(graphs.rated_groups(1, cyclic=0.5, size=size, labels=3)) > 3.0
    # Unanimous, far-apart rewards outweigh them: the null is what coins give, not perfect order.
    strong = graphs.rated_groups(1, cyclic=0.25, size=5, labels=9, spread=3.0)
    assert distance(strong) < -5.0


def test_every_cyclic_rater_raises_the_value(graphs: SimpleNamespace) -> None:
    for spread in (1.0, 3.0):
        values = [
            preference_inconsistency(
                graphs.rated_groups(2, cyclic=share, size=5, labels=9, spread=spread),
                permutations=0,
            ).value
            for share in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
        ]
        assert np.all(np.diff(values) > 0.03)


def test_many_consistent_labels_leave_nothing(graphs: SimpleNamespace) -> None:
    few, many = (
        preference_inconsistency(graphs.rated_groups(0, cyclic=0.0, labels=m, groups=50)).value
        for m in (5, 2000)
    )
    assert few > 0.05
    assert many < 0.005


def test_windows_merge_into_what_one_window_gives() -> None:
    ends = np.random.default_rng(0).integers(0, 40, (2, 300)).astype(np.uint64)
    halves = [EdgeMultiset.of_comparisons(*ends[:, rows]) for rows in np.arange(300).reshape(2, -1)]
    whole = EdgeMultiset.of_comparisons(*ends)
    assert preference_inconsistency(halves[1] + halves[0]) == preference_inconsistency(whole)


def test_seeds_decide_the_null_only() -> None:
    edges = labels((1, 2), (2, 3), (1, 3), (3, 4), (4, 1))
    first, again = (preference_inconsistency(edges, seed=1) for _ in range(2))
    assert first == again
    other = preference_inconsistency(edges, seed=2)
    assert other.value == first.value
    assert other.null_mean != first.null_mean
    bare = preference_inconsistency(edges, permutations=0)
    assert bare.value == pytest.approx(first.value, rel=1e-12)
    assert (bare.null_mean, bare.null_sd) == (None, None)


def test_without_a_cycle_or_a_preference_there_is_no_value(graphs: SimpleNamespace) -> None:
    assert preference_inconsistency(EdgeMultiset.empty()).undefined == "n"
    path = graphs.edges_of(nx.path_graph(9))
    assert preference_inconsistency(path).undefined == "tree"
    draws = [pair for i, j in ((1, 2), (2, 3), (3, 1)) for pair in ((i, j), (j, i))]
    assert preference_inconsistency(labels(*draws)).undefined == "constant"
