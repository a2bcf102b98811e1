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


def canonical_directions(
    x: Tensor, y: Tensor, *, r: int, ridge: float = RIDGE
) -> CanonicalDirections:
    """Return the directions of largest correlation between ``x`` and ``y``.

    Hotelling's canonical correlation analysis by Cholesky whitening and a singular value
    decomposition of the whitened cross-covariance. The ridge keeps constant and collinear
    columns harmless.

    Args:
        x: Shape ``(t, n, dx)``, float64.
        y: Shape ``(t, n, dy)``, float64.
        r: Number of directions; fewer when dx or dy is smaller.
        ridge: Added to the covariances' diagonals, in units of their mean.

    Returns:
        The directions. Cost O(t (n d^2 + d^3)).
    """
    r = min(r, x.shape[-1], y.shape[-1])
    n = x.shape[-2]
    x_mean, y_mean = x.mean(-2, keepdim=True), y.mean(-2, keepdim=True)
    xc, yc = x - x_mean, y - y_mean
    x_root = whitening_root(xc.mT @ xc / n, ridge=ridge)
    y_root = whitening_root(yc.mT @ yc / n, ridge=ridge)
    half = torch.linalg.solve_triangular(x_root, xc.mT @ yc / n, upper=False)
    cross = torch.linalg.solve_triangular(y_root, half.mT, upper=False).mT
    u, s, vt = torch.linalg.svd(cross, full_matrices=False)
    x_weights = torch.linalg.solve_triangular(x_root.mT, u[..., :r], upper=True)
    y_weights = torch.linalg.solve_triangular(y_root.mT, vt.mT[..., :r], upper=True)
    return CanonicalDirections(x_mean, y_mean, x_weights, y_weights, s[..., :r].clamp(max=1.0))


def whitening_root(covariance: Tensor, *, ridge: float) -> Tensor:
    """Return the lower Cholesky factor of ``covariance (t, d, d)`` plus the ridge.

    A covariance of zero becomes the identity.
    """
    d = covariance.shape[-1]
    scale = covariance.diagonal(dim1=-2, dim2=-1).mean(-1)
    floor = torch.where(scale > 0, scale * max(ridge, 1e-10), 1.0)
    eye = torch.eye(d, dtype=covariance.dtype, device=covariance.device)
    return torch.linalg.cholesky(covariance + floor[..., None, None] * eye)
