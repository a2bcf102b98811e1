"""Eigenvalues of covariances: what the spectral readings share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg.lapack import dsyevd

from infoplane.estimators.state.moments import Moments

FloatArray = npt.NDArray[np.float64]
SMALL = 64
"""Widest matrix whose eigenvalues cost one thread less than it takes threads to meet."""


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
    for members in groups.values():
        some = [moments[i] for i in members]
        found.update(zip(members, _spectra_of_one_width(some, device), strict=True))
    return [found[i] for i in range(len(moments))]


def spectra_of(items: Sequence[Moments | Spectrum], device: str | torch.device) -> list[Spectrum]:
    """Return the spectra of items, some of which may be spectra already; their order is kept."""
    fresh = iter(spectra([item for item in items if isinstance(item, Moments)], device=device))
    return [item if isinstance(item, Spectrum) else next(fresh) for item in items]


def covariances(moments: Sequence[Moments]) -> FloatArray:
    """Return the unbiased covariances of items of one width and more than one row, ``(t, d, d)``."""
    n = np.array([item.n for item in moments])[:, None, None]
    mean = np.stack([item.total for item in moments])[:, None] / n
    # In place: a fresh page costs more than the sum that it takes.
    means = mean.mT * mean
    means *= n
    centred = np.stack([item.outer for item in moments])
    centred -= means
    found: FloatArray = np.add(centred, centred.mT, out=means)
    found /= 2.0 * (n - 1.0)
    return found


def symmetric_eigenvalues(stack: FloatArray, device: str | torch.device) -> FloatArray:
    """Return the eigenvalues of symmetric matrices ``(t, d, d)``, ascending, ``(t, d)``.

    Those of a matrix that is not finite are NaN. Threads take longer to share a small matrix than
    one takes to do it alone, ten times as long when other processes want the cores; so on the CPU small
    ones go to LAPACK one by one, with the workspace that makes it use one thread.
    """
    values = np.full(stack.shape[:-1], np.nan)
    finite = np.isfinite(stack).all((-2, -1))
    if runs_alone(stack.shape[-1], device):
        for i in np.flatnonzero(finite):
            found, _, fault = dsyevd(stack[i].T, compute_v=0, lower=1)
            if fault == 0:
                values[i] = found
    elif finite.any():
        given = torch.from_numpy(stack[finite]).to(device)
        values[finite] = torch.linalg.eigvalsh(given).cpu().numpy()
    return values


def runs_alone(d: int, device: str | torch.device) -> bool:
    """Whether matrices of width d are best done one by one on one thread."""
    return d <= SMALL and torch.device(device).type == "cpu"


def _spectra_of_one_width(moments: Sequence[Moments], device: str | torch.device) -> list[Spectrum]:
    stack = covariances(moments)
    variance = np.trace(stack, axis1=-2, axis2=-1)
    # Moments about zero carry rounding of the mean's size; below it nothing is known to vary.
    second = np.array([np.trace(item.outer) / (item.n - 1.0) for item in moments])
    values = np.maximum(symmetric_eigenvalues(stack, device), 0.0)
    found = []
    for item, row, own, about_zero in zip(moments, values, variance, second, strict=True):
        if not (np.isfinite(about_zero) and np.isfinite(row).all()):
            found.append(Spectrum(item.n, item.d, np.zeros(0), "nan"))
        elif own <= 1e-12 * about_zero:
            found.append(Spectrum(item.n, item.d, np.zeros(0), "constant"))
        else:
            found.append(Spectrum(item.n, item.d, row, ""))
    return found


def _reason(item: Moments) -> str:
    """Return what is wrong with an item before its covariance is known, or ``""``."""
    finite = np.isfinite(item.outer).all() and np.isfinite(item.total).all()
    if not (math.isfinite(item.n) and finite):
        return "nan"
    return "n" if item.n < 2 or item.d == 0 else ""
