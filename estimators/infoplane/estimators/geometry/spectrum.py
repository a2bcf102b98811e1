"""Eigenvalues of covariances: what the spectral readings share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from infoplane.estimators.state.moments import Moments

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """Eigenvalues of one covariance, or why there are none.

    Attributes:
        n: Rows behind it; 0 when their number is not finite.
        d: Width of a row.
        eigenvalues: Shape ``(d,)``, ascending, not below 0; empty without a spectrum.
        reason: ``"n"`` below 2 rows or without columns, ``"nan"``, ``"constant"`` when nothing
            varies; empty when there is a spectrum.
    """

    n: float
    d: int
    eigenvalues: FloatArray
    reason: str


def spectra(moments: Sequence[Moments], *, device: str | torch.device = "cpu") -> list[Spectrum]:
    """Return the spectrum of every item's unbiased covariance.

    `representation_rate`, `epsilon_rank` and `von_neumann_entropy` take what this returns in
    place of moments, so that several of them cost one decomposition.

    Args:
        moments: One per item; widths may differ.
        device: Where eigenvalues are computed, in float64.

    Returns:
        One spectrum per item. Cost O(d^3) each; equal widths are batched.
    """
    found: dict[int, Spectrum] = {}
    groups: dict[int, list[int]] = {}
    for i, item in enumerate(moments):
        reason = _reason(item)
        if reason:
            n = item.n if math.isfinite(item.n) else 0.0
            found[i] = Spectrum(n, item.d, np.zeros(0), reason)
        else:
            groups.setdefault(item.d, []).append(i)
    for d, members in groups.items():
        # eigvalsh is batched; a stack of one width at a time.
        stack = torch.from_numpy(np.stack([moments[i].covariance() for i in members]))
        values = torch.linalg.eigvalsh(stack.to(device)).clamp(min=0.0).cpu().numpy()
        for i, row in zip(members, values, strict=True):
            found[i] = Spectrum(moments[i].n, d, row, "")
    return [found[i] for i in range(len(moments))]


def spectra_of(
    items: Sequence[Moments] | Sequence[Spectrum], device: str | torch.device
) -> list[Spectrum]:
    """Return the spectra of items, some of which may be spectra already; their order is kept."""
    fresh = iter(spectra([item for item in items if isinstance(item, Moments)], device=device))
    return [item if isinstance(item, Spectrum) else next(fresh) for item in items]


def _reason(item: Moments) -> str:
    finite = np.isfinite(item.outer).all() and np.isfinite(item.total).all()
    if not (math.isfinite(item.n) and finite):
        return "nan"
    if item.n < 2 or item.d == 0:
        return "n"
    # Moments about zero carry rounding of the mean's size; below it nothing is known to vary.
    second = float(np.trace(item.outer)) / (item.n - 1)
    variance = float(np.trace(item.covariance()))
    if not (math.isfinite(second) and math.isfinite(variance)):
        return "nan"
    return "constant" if variance <= 1e-12 * second else ""
