"""Information along a sequence: how well a token's neighbours are told from the rest of its run.

Multi-positive InfoNCE inside one sequence, after "Information Shapes Koopman Representation"
(2025). At position t of a run of T tokens the tokens t - K .. t + K are the positives and all
other tokens the negatives. With e the exponential of cosine over temperature,

    loss_t = -ln(sum_positives e / sum_others e),    bound = ln((T - 1) / 2K) - mean loss.

The bound cannot pass ln((T - 1) / 2K), so runs must be long.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.verdicts import SATURATION, null_of

ESTIMATOR = "sequence_infonce"
VERSION = 1
BLOCK_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 26}
"""Scores in one block: 4 MB in float64 on a CPU, which its cache holds."""
SEGMENT = 32
"""Fewest positions whose mean counts as one independent value in the band."""
CONSTANT = 1e-7
"""Difference of unit rows below which it may be rounding of float32 input."""
Parameters = Mapping[str, float | int | str]


def sequence_mi(
    runs: Tensor,
    *,
    seeds: Sequence[int],
    neighbours: int = 2,
    temperature: float = 0.1,
    permutations: int = 1,
    min_length: int = 128,
) -> list[Estimate]:
    """Return a lower bound on the information between tokens up to K places apart, in nats.

    Averaged over runs and over the positions that have all 2K neighbours. It may be below 0 and
    is not cut there. K, temperature and T are part of what it measures: T is never mixed.

    Null: positions permuted within every run, the same tokens otherwise; at or below 0. Ceiling:
    ln((T - 1) / 2K); saturated above 0.8 of it. Band: 1.96 standard errors over segments of runs
    (at least 32 positions, whose mean is taken as one value), for segments that are independent;
    absent below two segments.

    Undefined: ``"n"`` without runs or columns, or with T below ``min_length`` or 4K + 2; ``"nan"``;
    ``"constant"`` when all tokens of an item point the same way. A token of zeros has cosine 0
    with every other.

    Args:
        runs: Shape ``(t, s, T, d)``: s runs of T consecutive tokens.
        seeds: One per item, for the permutations.
        neighbours: K.
        temperature: Of the cosines; above 0.
        permutations: Draws of the null.
        min_length: Smallest T that is taken.

    Returns:
        ``t`` estimates, n the positions averaged over. Cost O(t s T^2 d); float64, at most
        4 MB of scores at once on a CPU. A draw of the null costs O(t s T K d) more.

    Raises:
        ValueError: If the shape, the number of seeds or a setting does not fit.
    """
    if runs.ndim != 4 or len(seeds) != runs.shape[0]:
        raise ValueError(
            f"runs, seeds: expected (t, s, T, d), t; got {tuple(runs.shape)}, {len(seeds)}"
        )
    if neighbours < 1 or not temperature > 0 or permutations < 0:
        raise ValueError(
            "neighbours, temperature, permutations: expected at least 1, above 0, at least 0; "
            f"got {neighbours}, {temperature}, {permutations}"
        )
    t, s, length, d = runs.shape
    n = s * max(length - 2 * neighbours, 0)
    parameters: Parameters = {
        "neighbours": neighbours,
        "temperature": temperature,
        "length": length,
        "d": d,
    }
    if s == 0 or d == 0 or length < max(min_length, 4 * neighbours + 2):
        return [_missing("n", n, parameters) for _ in range(t)]
    estimates = []
    # Items are taken one by one, for an item's value must not depend on its batch.
    for item, seed in zip(runs, seeds, strict=True):
        reason, unit = _directions(item)
        if reason:
            estimates.append(_missing(reason, n, parameters))
            continue
        orders = _orders(seed, s, length, permutations, runs.device)
        losses = _losses(unit, orders, neighbours, temperature)
        estimates.append(_estimate(losses, n, parameters))
    return estimates


def _directions(rows: Tensor) -> tuple[str, Tensor]:
    """Return why an item has no value, or ``""``, and its unit rows ``(s, T, d)`` in float64."""
    if not bool(rows.isfinite().all()):
        return "nan", rows
    # Division by the largest entry first: squares of large entries overflow.
    rows = rows.to(torch.float64)
    rows = rows / rows.abs().amax(-1, keepdim=True).clamp(min=1e-300)
    unit = rows / rows.norm(dim=-1, keepdim=True).clamp(min=1e-300)
    flat = bool(((unit - unit[:1, :1]).abs() <= CONSTANT).all())
    return "constant" if flat else "", unit


def _orders(seed: int, s: int, length: int, draws: int, device: torch.device) -> Tensor:
    """Return the true order and ``draws`` random ones of every run, ``(1 + draws, s, length)``."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    keys = torch.rand(draws, s, length, generator=generator, dtype=torch.float64)
    true = torch.arange(length).expand(1, s, length)
    return torch.cat([true, keys.argsort(-1)]).to(device)


def _losses(unit: Tensor, orders: Tensor, neighbours: int, temperature: float) -> Tensor:
    """Return losses ``(1 + draws, s, T - 2K)`` of runs ``unit (s, T, d)`` in every order."""
    others = torch.cat([_log_others(*block, temperature) for block in _blocks(unit)], 1)
    others = others.reshape(unit.shape[:2])
    found = []
    for order in orders:
        placed = unit.gather(1, order.unsqueeze(-1).expand_as(unit))
        inner = slice(neighbours, unit.shape[1] - neighbours)
        scores = [
            (placed[:, inner] * placed.roll(shift, 1)[:, inner]).sum(-1)
            for apart in range(1, neighbours + 1)
            for shift in (apart, -apart)
        ]
        near = (torch.stack(scores) / temperature).logsumexp(0)
        # A token's sum over all others is the same in any order.
        found.append(others.gather(1, order)[:, inner] - near)
    return torch.stack(found)


def _blocks(unit: Tensor) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Yield rows of runs, the runs, and the rows' first position, of bounded number of scores."""
    s, length, _ = unit.shape
    budget = BLOCK_ELEMENTS.get(unit.device.type, BLOCK_ELEMENTS["cuda"])
    rows = max(1, min(length, budget // length))
    held = max(1, budget // length**2) if rows == length else 1
    for i in range(0, s, held):
        for j in range(0, length, rows):
            yield unit[i : i + held, j : j + rows], unit[i : i + held], j


def _log_others(rows: Tensor, run: Tensor, first: int, temperature: float) -> Tensor:
    """Return ln sum e over all other tokens of the run, ``(1, rows of all runs)``."""
    scores = rows @ run.mT / temperature
    scores.diagonal(offset=first, dim1=-2, dim2=-1).fill_(-torch.inf)
    return scores.logsumexp(-1).reshape(1, -1)


def _estimate(losses: Tensor, n: int, parameters: Parameters) -> Estimate:
    length, neighbours = int(parameters["length"]), int(parameters["neighbours"])
    ceiling = math.log((length - 1) / (2 * neighbours))
    values = ceiling - losses
    value, *null = values.mean((1, 2)).tolist()
    null_mean, null_sd = null_of(null)
    parts = max(1, values.shape[-1] // SEGMENT)
    means = torch.cat([part.mean(-1) for part in values[0].tensor_split(parts, dim=-1)])
    count = int(means.numel())
    error = 1.96 * float(means.std()) / math.sqrt(count) if count > 1 else math.nan
    return Estimate(
        value=value,
        unit="nats",
        n=n,
        estimator=ESTIMATOR,
        version=VERSION,
        null_mean=null_mean,
        null_sd=null_sd,
        ceiling=ceiling,
        saturated=value > SATURATION * ceiling,
        band=(value - error, value + error) if count > 1 else None,
        parameters=parameters,
    )


def _missing(reason: str, n: int, parameters: Parameters) -> Estimate:
    return Estimate.missing(
        reason, unit="nats", n=n, estimator=ESTIMATOR, version=VERSION, parameters=parameters
    )
