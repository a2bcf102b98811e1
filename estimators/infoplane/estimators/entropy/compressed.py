"""Differential entropy of the leading principal components of rows.

Neighbour entropies have no meaning above some six columns, so rows are compressed first, as in "Information Bottleneck
Analysis of Deep Neural Networks via Lossy Compression" (Butakov et al., ICLR 2024), section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from infoplane.estimators.entropy.nearest_neighbours import weighted_kl_entropy
from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.verdicts import constant_items, nonfinite_items

ESTIMATOR = "compressed_entropy"
VERSION = 1
SMALLEST_SHARE = 1e-12


def compressed_entropy(
    x: Tensor, *, seeds: Sequence[int], components: int = 4, k: int = 5
) -> list[Estimate]:
    """Return the differential entropy in nats of the ``components`` leading components.

    Components are those of the rows' own covariance; they keep their scale. ``parameters`` holds the share of the
    variance that they retain. Null, ceiling and band as in `weighted_kl_entropy`: none, none, 1.96
    standard errors of the rows' terms.

    Undefined: as in `weighted_kl_entropy`, and ``"singular"`` for rows of rank below ``components``.

    Args:
        x: Shape ``(t, n, d)``; with fewer columns than ``components`` all are taken.
        seeds: One per item, for the jitter.
        components: Columns that are kept, at most 6.
        k: Largest neighbour in use.

    Returns:
        ``t`` estimates. Cost O(t (n d^2 + d^3 + n^2)), float64.

    Raises:
        ValueError: If the shape or the number of seeds do not fit, or components < 1.
    """
    if x.ndim != 3 or components < 1:
        raise ValueError(
            f"x, components: expected (t, n, d) and 1 or more, got {tuple(x.shape)} and {components}"
        )
    if x.shape[0] == 0 or x.shape[1] == 0 or x.shape[2] == 0:
        return [
            _named(one, components, 0.0)
            for one in weighted_kl_entropy(x[..., :components], seeds=seeds, k=k)
        ]
    rows = torch.where(x.isfinite(), x, 0.0).to(torch.float64)
    rows = rows - rows.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh(rows.mT @ rows / rows.shape[1])
    values = values.clamp(min=0.0)
    kept, total = values[:, -components:], values.sum(-1)
    shares = kept.sum(-1) / total.clamp(min=1e-300)
    # Below it a component is rounding noise, which must not look like data.
    low_rank = (kept[:, 0] <= SMALLEST_SHARE * total).tolist()
    found = weighted_kl_entropy(rows @ vectors[..., -components:], seeds=seeds, k=k)
    flags = zip(nonfinite_items(x), constant_items(x), low_rank, strict=True)
    reasons = [
        "nan"
        if nan
        else "constant"
        if flat
        else "singular"
        if low and x.shape[1] > components
        else ""
        for nan, flat, low in flags
    ]
    return [
        _named(one, components, share, reason)
        for one, share, reason in zip(found, shares.tolist(), reasons, strict=True)
    ]


def _named(one: Estimate, components: int, share: float, reason: str = "") -> Estimate:
    parameters = {**one.parameters, "components": components, "retained": round(share, 6)}
    if reason:
        return Estimate.missing(
            reason,
            unit="nats",
            n=one.n,
            estimator=ESTIMATOR,
            version=VERSION,
            parameters=parameters,
        )
    return replace(one, estimator=ESTIMATOR, version=VERSION, parameters=parameters)
