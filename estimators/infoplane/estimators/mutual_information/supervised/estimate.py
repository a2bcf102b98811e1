"""Mutual information as a trained network reads it: the median, and a calibrated interval.

The idea of training on sets of known information is that of "MIST: Mutual Information via
Supervised Training" (2025). Input, network, training sets and weights are our own; the page
benchmarks/estimators/supervised-*.md, written by scripts/train_supervised_mi.py, has their errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.supervised.checkpoint import Checkpoint, shipped
from infoplane.estimators.mutual_information.supervised.features import (
    MAX_ROWS,
    MAX_WIDTH,
    MIN_ROWS,
    Features,
    features,
)
from infoplane.estimators.mutual_information.supervised.network import quantiles_at
from infoplane.estimators.mutual_information.supervised.order import content_order
from infoplane.estimators.mutual_information.verdicts import (
    SATURATION,
    constant_items,
    nonfinite_items,
)

ESTIMATOR = "supervised"
VERSION = 1
BAND = (0.05, 0.95)
CHUNK = 32
"""Windows that are computed together, which bounds memory."""


def supervised_mi(
    x: Tensor,
    y: Tensor,
    *,
    seeds: Sequence[int],
    subsets: int = 4,
    checkpoint: Checkpoint | None = None,
) -> list[Estimate]:
    """Return I(X;Y) in nats for every item, as a network trained on known information reads it.

    A second opinion beside `heldout_ksg`, and the only one with an interval for the truth. The
    value is the median of the network's distribution. It is close on data that resemble the
    training sets, and has no guarantee elsewhere; the page of the training has the errors on
    families that training never saw. Where the data say little (many columns, few rows) it
    falls back to what was usual in training.

    Rows beyond 512 are dealt to up to ``subsets`` windows of equal size, and the windows'
    quantiles are averaged. The order of rows and of columns, increasing maps of a column, and
    swapping x with y change nothing but rounding.

    Null: none; the value of independent rows is near 0 by training. Ceiling: the largest
    information in training; saturated above 0.8 of it. Band: 5 % and 95 % quantiles for the
    truth, 90 % on the training distribution, for one window: averaging does not narrow it.

    Undefined: ``"shape"`` below 64 rows, without columns or beyond 32 columns a side, which
    training never had; ``"nan"``; ``"constant"`` when no column of x or of y varies.

    Args:
        x: Shape ``(t, n, dx)``, on any device. The network itself runs on the CPU.
        y: Shape ``(t, n, dy)``.
        seeds: One per item, for the deal of rows to windows and folds.
        subsets: Windows at most.
        checkpoint: Weights; those of this package when absent.

    Returns:
        ``t`` estimates. Cost O(t subsets 512^2 (dx + dy)), about 25 ms per window of 512 rows
        and 32 + 32 columns on one core, all in float64.

    Raises:
        ValueError: If shapes, the number of seeds or ``subsets`` do not fit.
    """
    _check(x, y, seeds, subsets)
    checkpoint = checkpoint or shipped()
    reasons = _reasons(x, y)
    size, count = windows(x.shape[1], subsets)
    parameters = {"dx": x.shape[-1], "dy": y.shape[-1], "rows": size, "windows": count}
    found: Iterator[Tensor] = iter(())
    usable = [i for i, reason in enumerate(reasons) if not reason]
    if usable:
        parts = _windows(x[usable], y[usable], [seeds[i] for i in usable], size, count)
        chunks = zip(*(torch.split(part, CHUNK) for part in parts), strict=True)
        quantiles = torch.cat([_quantiles(checkpoint, *chunk) for chunk in chunks])
        found = iter(quantiles.reshape(-1, count, 3).mean(1))
    return [
        _missing(reason, x.shape[1], parameters)
        if reason
        else _estimate(next(found), size * count, checkpoint.ceiling, parameters)
        for reason in reasons
    ]


def windows(n: int, subsets: int) -> tuple[int, int]:
    """Return rows per window and windows for ``n`` rows; windows share no row."""
    count = max(1, min(subsets, -(-n // MAX_ROWS)))
    return min(n // count, MAX_ROWS), count


def _windows(
    x: Tensor, y: Tensor, seeds: Sequence[int], size: int, count: int
) -> tuple[Tensor, Tensor]:
    """Return the windows of all items, ``(t count, size, d)``, rows in content order."""
    order = content_order(x, y, seeds=seeds)[:, : size * count].unsqueeze(-1)
    u, v = torch.take_along_dim(x, order, 1), torch.take_along_dim(y, order, 1)
    return u.reshape(-1, size, x.shape[-1]), v.reshape(-1, size, y.shape[-1])


def _quantiles(checkpoint: Checkpoint, x: Tensor, y: Tensor) -> Tensor:
    """Return low, median and high for every window, not below 0, ``(t, 3)``."""
    seen = features(x, y)
    there = torch.ones(seen.rows.shape[:2], dtype=torch.bool)
    parts = (seen.statistics, seen.directions, seen.rows)
    doubled = Features(*(part.to("cpu", torch.float64) for part in parts))
    out = checkpoint.network(doubled, there).clamp(min=0.0)
    return torch.stack([quantiles_at(out, level) for level in (BAND[0], 0.5, BAND[1])], -1)


def _check(x: Tensor, y: Tensor, seeds: Sequence[int], subsets: int) -> None:
    if x.ndim != 3 or y.ndim != 3 or x.shape[:2] != y.shape[:2]:
        raise ValueError(f"x, y: expected (t, n, d) of equal t and n, got {x.shape}, {y.shape}")
    if len(seeds) != x.shape[0]:
        raise ValueError(f"seeds: expected {x.shape[0]}, one per item, got {len(seeds)}")
    if subsets < 1:
        raise ValueError(f"subsets: expected 1 or more, got {subsets}")


def _reasons(x: Tensor, y: Tensor) -> list[str]:
    n, widths = x.shape[1], (x.shape[-1], y.shape[-1])
    if n < MIN_ROWS or min(widths) < 1 or max(widths) > MAX_WIDTH:
        return ["shape"] * x.shape[0]
    flags = zip(nonfinite_items(x, y), constant_items(x), constant_items(y), strict=True)
    return ["nan" if nan else "constant" if cx or cy else "" for nan, cx, cy in flags]


def _estimate(
    quantiles: Tensor, n: int, ceiling: float, parameters: Mapping[str, float | int | str]
) -> Estimate:
    low, value, high = quantiles.tolist()
    return Estimate(
        value=value,
        unit="nats",
        n=n,
        estimator=ESTIMATOR,
        version=VERSION,
        ceiling=ceiling,
        saturated=value > SATURATION * ceiling,
        band=(low, high),
        parameters=parameters,
    )


def _missing(reason: str, n: int, parameters: Mapping[str, float | int | str]) -> Estimate:
    return Estimate.missing(
        reason, unit="nats", n=n, estimator=ESTIMATOR, version=VERSION, parameters=parameters
    )
