"""Entropy of a large operator's spectrum without its eigenvalues.

Stochastic Lanczos quadrature (Ubaru, Chen, Saad, "Fast estimation of tr(f(A))", 2017) on the
complement of a deflated leading subspace (Meyer et al., "Hutch++", 2021), with the traces of 1, A
and A^2, which are known, as control variates.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

PROBES = 16
STEPS = 40
DEFLATED = 48
DEFLATED_STEPS = 4
POWER_ITERATIONS = 2


class QuadratureEntropy(NamedTuple):
    """Entropy in bits, and the standard error that the random probes leave."""

    bits: float
    error: float


class _Rule(NamedTuple):
    """Nodes and weights of one Gauss quadrature for each start vector, ``(c, steps)``."""

    nodes: Tensor
    weights: Tensor

    def integrals(self, values: Tensor) -> Tensor:
        """Return the integral of ``values`` at the nodes for each start vector."""
        return (values * self.weights).sum(-1)


def entropy_by_quadrature(operator: Tensor, seed: int) -> QuadratureEntropy:
    """Return log2 T - tr(A log2 A) / T for a positive semi-definite matrix A of trace T.

    Products with A run in its own type, float32 being enough; small matrices that come out of
    them are float64 on the CPU.

    Args:
        operator: Shape ``(n, n)``, eigenvalues 0 .. 1.
        seed: For the probes.

    Returns:
        The value and its standard error. Cost about 800 products with one vector each 2 n^2
        operations; memory O(64 n) besides the matrix.
    """
    n = operator.shape[0]
    generator = torch.Generator().manual_seed(seed % 2**63)
    starts = torch.randn(n, min(DEFLATED, n // 8), generator=generator)
    signs = torch.randint(0, 2, (n, PROBES), generator=generator) * 2 - 1
    basis, image = _leading_subspace(operator, starts.to(operator))
    probes = signs.to(operator)
    probes = probes - basis @ (basis.mT @ probes)
    trace = float(operator.diagonal().sum(dtype=torch.float64))
    # What is left of the traces of 1, A and A^2 in the complement.
    left = [
        float(n - basis.shape[1]),
        trace - float((basis.double() * image.double()).sum()),
        _square_sum(operator) - _square_sum(image),
    ]
    inside = _quadrature(operator, basis, min(DEFLATED_STEPS, n))
    outside = _quadrature(operator, probes, min(STEPS, n))
    terms = _controlled(outside, torch.tensor(left, dtype=torch.float64))
    total = float(inside.integrals(_entropy_terms(inside.nodes)).sum() + terms.mean())
    error = float(terms.std()) / math.sqrt(PROBES)
    return QuadratureEntropy(math.log2(trace) + total / trace, error / trace)


def _leading_subspace(operator: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Return approximate leading eigenvectors ``(n, k)`` and the operator times them."""
    basis = starts
    for _ in range(POWER_ITERATIONS):
        basis = torch.linalg.qr(operator @ basis).Q
    image = operator @ basis
    # The small problem on the CPU, so that devices differ by rounding only.
    vectors = torch.linalg.eigh((basis.mT @ image).double().cpu()).eigenvectors.to(basis)
    return basis @ vectors, image @ vectors


def _square_sum(matrix: Tensor) -> float:
    """Return the sum of squares in float64 without a float64 copy of the matrix."""
    starts = range(0, matrix.shape[0], 256)
    return sum(float(matrix[i : i + 256].double().square().sum()) for i in starts)


def _quadrature(operator: Tensor, starts: Tensor, steps: int) -> _Rule:
    """Return the Gauss rules of ``starts (n, c)`` by Lanczos without reorthogonalisation.

    Lost orthogonality repeats nodes and splits their weight, which an integral does not see.
    """
    length = starts.norm(dim=0)
    vector = starts / length.clamp(min=1e-30)
    previous, beta = torch.zeros_like(vector), torch.zeros_like(length)
    diagonal, side = [], []
    for _ in range(steps):
        image = operator @ vector - previous * beta
        alpha = (image * vector).sum(0)
        image -= vector * alpha
        beta = image.norm(dim=0)
        diagonal.append(alpha)
        side.append(beta)
        previous, vector = vector, image / beta.clamp(min=1e-30)
    a = torch.stack(diagonal, -1).double().cpu()
    b = torch.stack(side, -1).double().cpu()[:, :-1]
    tridiagonal = torch.diag_embed(a) + torch.diag_embed(b, 1) + torch.diag_embed(b, -1)
    nodes, vectors = torch.linalg.eigh(tridiagonal)
    scale = length.double().cpu().square().unsqueeze(-1)
    return _Rule(nodes.clamp(min=0.0), vectors[:, 0].square() * scale)


def _controlled(rule: _Rule, left: Tensor) -> Tensor:
    """Return every probe's estimate of tr f in the complement, variance reduced, ``(c,)``.

    The quadratic that is nearest to f under the spectral density is what has a known trace.
    """
    values = _entropy_terms(rule.nodes)
    powers = torch.stack([torch.ones_like(rule.nodes), rule.nodes, rule.nodes.square()])
    root = rule.weights.sqrt()
    design = (powers * root).flatten(1).mT
    size = design.norm(dim=0).clamp(min=1e-30)
    target = (values * root).flatten().unsqueeze(-1)
    fit = torch.linalg.lstsq(design / size, target, driver="gelsd").solution.squeeze(-1) / size
    strays = rule.integrals(powers).mT - left
    terms: Tensor = rule.integrals(values) - strays @ fit
    return terms


def _entropy_terms(nodes: Tensor) -> Tensor:
    return -torch.xlogy(nodes, nodes) / math.log(2.0)
