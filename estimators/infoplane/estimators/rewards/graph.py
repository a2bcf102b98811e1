"""The graph of compared responses, and its counts.

Nodes are responses, edges distinct pairs that were compared. A node without an edge cannot occur:
only compared responses are known. Rewards in different components have no common zero, so no
comparison says which of two such responses is better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from infoplane.estimators.estimate import Estimate, Unit
from infoplane.estimators.state.edges import EdgeMultiset

IntArray = npt.NDArray[np.int64]

ESTIMATOR = "graph"
VERSION = 1


@dataclass(frozen=True, slots=True, eq=False)
class ResponseGraph:
    """Distinct pairs as edges between nodes 0 .. n - 1.

    Attributes:
        ids: The response of every node, shape ``(n,)``, uint64, ascending.
        tail: One end of every edge, ``(e,)``, int64, in the order of the multiset's pairs.
        head: The other end.
        component: Component of every node, ``(n,)``, int64, 0 .. c - 1.
        comparisons: Comparisons that the edges stand for.
    """

    ids: npt.NDArray[np.uint64]
    tail: IntArray
    head: IntArray
    component: IntArray
    comparisons: int

    @classmethod
    def of_edges(cls, edges: EdgeMultiset) -> ResponseGraph:
        """Number the nodes and find the components; cost O(e log e)."""
        ids, place = np.unique(np.concatenate([edges.low, edges.high]), return_inverse=True)
        tail, head = place.astype(np.int64).reshape(2, -1)
        links = sparse.coo_array((np.ones(len(tail)), (tail, head)), shape=(len(ids), len(ids)))
        component = np.zeros(0, np.int64)
        if len(ids):
            component = connected_components(links, directed=False)[1].astype(np.int64)
        return cls(ids, tail, head, component, edges.comparisons)

    @property
    def nodes(self) -> int:
        """Number of responses, N."""
        return len(self.ids)

    @property
    def edges(self) -> int:
        """Number of distinct pairs, E."""
        return len(self.tail)

    @property
    def sizes(self) -> IntArray:
        """Nodes of every component, shape ``(c,)``."""
        return np.bincount(self.component).astype(np.int64)

    @property
    def cycle_rank(self) -> int:
        """Number of independent cycles, E - N + C: 0 for a forest."""
        return self.edges - self.nodes + len(self.sizes)

    def cyclic_core(self) -> npt.NDArray[np.bool_]:
        """Return which edges are left when nodes with one edge are cut off again and again.

        Shape ``(e,)``: the 2-core, which holds every cycle (and the bridges between cycles).
        Cost O(n + e) and one round for each edge of the longest branch.
        """
        degree = np.zeros(self.nodes, np.int64)
        # Xor of a node's neighbours: for a node with one edge left, the neighbour itself.
        neighbour = np.zeros(self.nodes, np.int64)
        for one, other in ((self.tail, self.head), (self.head, self.tail)):
            degree += np.bincount(one, minlength=self.nodes)
            np.bitwise_xor.at(neighbour, one, other)
        leaves = np.flatnonzero(degree == 1)
        while leaves.size:
            degree[leaves] = 0
            # Two leaves that hold each other are an edge of its own: both are gone.
            beyond = neighbour[leaves]
            inner = degree[beyond] > 0
            leaves, beyond = leaves[inner], beyond[inner]
            np.subtract.at(degree, beyond, 1)
            np.bitwise_xor.at(neighbour, beyond, leaves)
            leaves = np.unique(beyond[degree[beyond] == 1])
        return (degree[self.tail] > 0) & (degree[self.head] > 0)


def graph_nodes(graph: ResponseGraph) -> Estimate:
    """Return N, the number of distinct responses that were compared; 0 without comparisons."""
    return _estimate(graph.nodes, "1", graph)


def graph_edges(graph: ResponseGraph) -> Estimate:
    """Return E, the number of distinct pairs that were compared; 0 without comparisons."""
    return _estimate(graph.edges, "1", graph)


def graph_components(graph: ResponseGraph) -> Estimate:
    """Return C, the number of components; 1 when every pair of responses is connected."""
    return _estimate(len(graph.sizes), "1", graph)


def graph_cycle_rank(graph: ResponseGraph) -> Estimate:
    """Return E - N + C, the number of independent cycles: comparisons that others could refute."""
    return _estimate(graph.cycle_rank, "1", graph)


def graph_giant_component_ratio(graph: ResponseGraph) -> Estimate:
    """Return the share of responses in the largest component; undefined ``"n"`` without any."""
    if graph.nodes == 0:
        return Estimate.missing("n", unit="ratio", n=0, estimator=ESTIMATOR, version=VERSION)
    return _estimate(float(graph.sizes.max()) / graph.nodes, "ratio", graph)


def _estimate(value: float, unit: Unit, graph: ResponseGraph) -> Estimate:
    return Estimate(float(value), unit, graph.comparisons, ESTIMATOR, VERSION)
