"""Linear systems in a graph's Laplacian, many right-hand sides at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# What is left of a graph without its chains has at most twice as many nodes: cheap to factorise.
_FEW_CYCLES = 1000


def incidence(nodes: int, tail: IntArray, head: IntArray) -> sparse.csr_array:
    """Return B, shape ``(e, n)``: (B s)_e = s[tail_e] - s[head_e]."""
    e = len(tail)
    rows = np.tile(np.arange(e), 2)
    values = np.concatenate([np.ones(e), -np.ones(e)])
    columns = np.concatenate([tail, head])
    return sparse.csr_array((values, (rows, columns)), shape=(e, nodes))


def laplacian(nodes: int, tail: IntArray, head: IntArray, weight: FloatArray) -> sparse.csr_array:
    """Return L = B^T W B, shape ``(n, n)``, for positive weights ``(e,)``."""
    b = incidence(nodes, tail, head)
    return sparse.csr_array(b.T @ (sparse.diags_array(weight) @ b))


def solve(
    matrix: sparse.csr_array,
    rhs: FloatArray,
    *,
    tolerance: float = 1e-8,
    max_iterations: int = 300,
) -> FloatArray:
    """Return x with L x = rhs, up to a constant in each component.

    Conjugate gradients with the diagonal as preconditioner; random graphs need 10 to 200 steps.
    Graphs with few cycles, and those for which ``max_iterations`` do not suffice (grids,
    ladders), are factorised instead: theirs are the slow ones to iterate, and the ones whose
    factors are sparse.

    Args:
        matrix: Laplacian L of a graph without isolated nodes, shape ``(n, n)``.
        rhs: Shape ``(n, p)``; every column sums to zero in each component.
        tolerance: Largest residual norm of a column, relative to its right-hand side.
        max_iterations: Steps before the direct solver.

    Returns:
        Shape ``(n, p)``. Cost O((n + e) p) a step.
    """
    if (matrix.nnz - 3 * matrix.shape[0]) // 2 < _FEW_CYCLES:  # edges less nodes
        return _solve_directly(matrix, rhs)
    x = np.zeros_like(rhs)
    residual = rhs.copy()
    inverse_diagonal = 1.0 / matrix.diagonal()[:, None]
    direction = inverse_diagonal * residual
    energy = np.sum(residual * direction, axis=0)
    goal = np.square(tolerance) * np.sum(rhs * rhs, axis=0)
    for _ in range(max_iterations):
        if np.all(np.sum(residual * residual, axis=0) <= goal):
            return x
        image = matrix @ direction
        step = _quotient(energy, np.sum(direction * image, axis=0))
        x += step * direction
        residual -= step * image
        scaled = inverse_diagonal * residual
        last, energy = energy, np.sum(residual * scaled, axis=0)
        direction = scaled + _quotient(energy, last) * direction
    return _solve_directly(matrix, rhs)


def _quotient(a: FloatArray, b: FloatArray) -> FloatArray:
    # A column that is solved exactly has 0 / 0: it takes no further step.
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


def _solve_directly(matrix: sparse.csr_array, rhs: FloatArray) -> FloatArray:
    """Pin the first node of each component to zero, which leaves a regular matrix."""
    component = connected_components(matrix, directed=False)[1]
    free = np.ones(matrix.shape[0], dtype=bool)
    free[np.unique(component, return_index=True)[1]] = False
    x = np.zeros_like(rhs)
    if free.any():
        kept = sparse.csc_array(matrix[free][:, free])
        x[free] = splu(kept, permc_spec="MMD_AT_PLUS_A").solve(rhs[free])
    return x
