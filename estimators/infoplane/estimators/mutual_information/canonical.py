"""Canonical correlation directions, fitted on some rows and applied to others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 1e-3
"""Added to both covariances, in units of their mean diagonal."""


@dataclass(frozen=True, slots=True)
class CanonicalDirections:
    """The r leading canonical directions of every item.

    Attributes:
        x_mean: Shape ``(t, 1, dx)``.
        y_mean: Shape ``(t, 1, dy)``.
        x_weights: Shape ``(t, dx, r)``.
        y_weights: Shape ``(t, dy, r)``.
        correlations: In-sample canonical correlations, shape ``(t, r)``, descending.
    """

    x_mean: Tensor
    y_mean: Tensor
    x_weights: Tensor
    y_weights: Tensor
    correlations: Tensor

    def project(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the canonical variates of rows, each ``(t, n, r)``, about unit variance."""
        return (x - self.x_mean) @ self.x_weights, (y - self.y_mean) @ self.y_weights


@dataclass(frozen=True, slots=True)
class CrossMoments:
    """Sums over rows of pairs, which add and subtract; float64.

    Attributes:
        n: Rows.
        x: Sum of x, shape ``(t, 1, dx)``.
        y: Sum of y, shape ``(t, 1, dy)``.
        xx: Sum of x x^T, shape ``(t, dx, dx)``.
        xy: Sum of x y^T, shape ``(t, dx, dy)``.
        yy: Sum of y y^T, shape ``(t, dy, dy)``.
    """

    n: int
    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yy: Tensor

    @classmethod
    def of_rows(cls, x: Tensor, y: Tensor) -> CrossMoments:
        """Return the moments of rows ``x (t, n, dx)`` and ``y (t, n, dy)``."""
        return cls(
            x.shape[-2],
            x.sum(-2, keepdim=True),
            y.sum(-2, keepdim=True),
            x.mT @ x,
            x.mT @ y,
            y.mT @ y,
        )

    def __add__(self, other: CrossMoments) -> CrossMoments:
        """Return the moments of both sets of rows."""
        return CrossMoments(
            self.n + other.n,
            self.x + other.x,
            self.y + other.y,
            self.xx + other.xx,
            self.xy + other.xy,
            self.yy + other.yy,
        )

    def covariances(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the centred xx, xy and yy covariances (divided by n)."""
        x, y, n = self.x / self.n, self.y / self.n, self.n
        return (
            self.xx / n - x.mT @ x,
            self.xy / n - x.mT @ y,
            self.yy / n - y.mT @ y,
        )


def canonical_directions(
    moments: CrossMoments, *, r: int, ridge: float = RIDGE
) -> CanonicalDirections:
    """Return the directions of largest correlation between x and y.

    Hotelling's canonical correlation analysis by Cholesky whitening and a singular value
    decomposition of the whitened cross-covariance. The ridge keeps constant and collinear
    columns harmless.

    Args:
        moments: Of the rows to fit; columns about centred and of similar scale.
        r: Number of directions; fewer when dx or dy is smaller.
        ridge: Added to the covariances' diagonals, in units of their mean.

    Returns:
        The directions. Cost O(t d^3).
    """
    xx, xy, yy = moments.covariances()
    r = min(r, *xy.shape[-2:])
    x_root, y_root = whitening_root(xx, ridge=ridge), whitening_root(yy, ridge=ridge)
    half = torch.linalg.solve_triangular(x_root, xy, upper=False)
    cross = torch.linalg.solve_triangular(y_root, half.mT, upper=False).mT
    u, s, v = _leading_vectors(cross, r)
    return CanonicalDirections(
        moments.x / moments.n,
        moments.y / moments.n,
        torch.linalg.solve_triangular(x_root.mT, u, upper=True),
        torch.linalg.solve_triangular(y_root.mT, v, upper=True),
        s.clamp(max=1.0),
    )


def whitening_root(covariance: Tensor, *, ridge: float) -> Tensor:
    """Return the lower Cholesky factor of ``covariance (t, d, d)`` plus the ridge.

    A covariance of zero becomes the identity.
    """
    d = covariance.shape[-1]
    scale = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)
    floor = torch.where(scale > 0, scale * max(ridge, 1e-10), 1.0)
    eye = torch.eye(d, dtype=covariance.dtype, device=covariance.device)
    root: Tensor = torch.linalg.cholesky(covariance + floor[..., None, None] * eye)
    return root


def _leading_vectors(matrix: Tensor, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the r leading singular vectors and values of ``matrix (t, a, b)``.

    By the eigenvectors of the smaller Gram matrix, twice as fast as a full decomposition;
    leading values lose nothing that matters to it.
    """
    if matrix.shape[-2] < matrix.shape[-1]:
        v, s, u = _leading_vectors(matrix.mT, r)
        return u, s, v
    vectors = torch.linalg.eigh(matrix.mT @ matrix).eigenvectors[..., -r:].flip(-1)
    image = matrix @ vectors
    values = image.norm(dim=-2)
    return image / values.unsqueeze(-2).clamp(min=1e-12), values, vectors
