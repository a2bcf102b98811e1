"""Information that a noisy copy of a row has about it, within classes: what is kept beyond the label.

I(X; Z | Y) of "How Does Information Bottleneck Help Deep Learning?" (Kawaguchi et al., ICML 2023), Z = X + noise of
variance s, by Monte Carlo: with z = x_i + e and the rows j of the class of i, itself among them,

    ln N(z; x_i, s) - ln mean_j N(z; x_j, s).

Evaluation points carry the noise, and both terms have the same normaliser, which cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.kernel_bounds import BLOCK_ELEMENTS, choose_noise
from infoplane.estimators.mutual_information.labels import dense_labels
from infoplane.estimators.mutual_information.pairings import row_orders
from infoplane.estimators.mutual_information.verdicts import (
    SATURATION,
    constant_items,
    nonfinite_items,
    null_of,
)

CONDITIONAL = "conditional_noise_mi"
PLAIN = "noise_mi"
VERSION = 1


def conditional_noise_mi(
    x: Tensor,
    labels: Tensor,
    *,
    variances: Sequence[float] | None,
    seeds: Sequence[int],
    draws: int = 4,
    permutations: int = 0,
) -> list[Estimate]:
    """Return I(X; X + noise | label) in nats for every item.

    Never more than the mean over rows of ln of the size of their class: the ceiling; saturated above 0.8 of it. A
    class of one row adds 0. The same seed draws the same noise at every variance, so the value falls with it. Null:
    labels permuted; the difference is what the label explains. Band: value +- 1.96 standard errors of the rows' terms.

    Undefined: ``"n"`` below 2 rows, ``"nan"``, ``"constant"``, ``"classes"`` when no class has two rows,
    ``"bandwidth"`` for a variance that is not above 0.

    Args:
        x: Shape ``(t, n, d)``.
        labels: Shape ``(t, n)``, integers.
        variances: Of the noise, one per item; None: `choose_noise` of these rows.
        seeds: One per item.
        draws: Of the noise.
        permutations: Draws of the null, 0 for none.

    Returns:
        ``t`` estimates. Cost O(t draws (1 + permutations) n^2 d), float64, memory in blocks.

    Raises:
        ValueError: If shapes, numbers or draws do not fit.
    """
    t, n, d = _check(x, variances, seeds, draws)
    if labels.shape != (t, n):
        raise ValueError(f"labels: expected {(t, n)}, got {tuple(labels.shape)}")
    if n < 2 or d == 0:
        return [_missing("n", CONDITIONAL, n, d, draws) for _ in range(t)]
    dense, _ = dense_labels(labels.cpu())
    orders = row_orders(seeds, n, permutations=permutations, device=torch.device("cpu"))
    orders[:, 0] = torch.arange(n)
    partners = dense[:, None].expand(-1, 1 + permutations, -1).gather(2, orders).to(x.device)
    return _estimates(x, partners, variances, seeds, draws, CONDITIONAL)


def noise_mi(
    x: Tensor, *, variances: Sequence[float] | None, seeds: Sequence[int], draws: int = 4
) -> list[Estimate]:
    """Return I(X; X + noise) in nats for every item.

    As `conditional_noise_mi` with one class: ceiling ln n, no null.
    """
    t, n, d = _check(x, variances, seeds, draws)
    if n < 2 or d == 0:
        return [_missing("n", PLAIN, n, d, draws) for _ in range(t)]
    one_class = torch.zeros(t, 1, n, dtype=torch.int64, device=x.device)
    return _estimates(x, one_class, variances, seeds, draws, PLAIN)


def _estimates(
    x: Tensor,
    partners: Tensor,
    variances: Sequence[float] | None,
    seeds: Sequence[int],
    draws: int,
    estimator: str,
) -> list[Estimate]:
    """Return one estimate per item; classes ``partners (t, 1 + permutations, n)``, the first are the real ones."""
    n, d = x.shape[1:]
    noise = choose_noise(x) if variances is None else torch.tensor(variances, dtype=torch.float64)
    noise = noise.to(x.device, torch.float64)
    usable = (noise > 0) & noise.isfinite()
    sizes = (partners[:, 0, :, None] == partners[:, 0, None, :]).sum(-1)
    limits = sizes.double().log().mean(-1).tolist()
    scaled = torch.where(x.isfinite(), x, 0.0).to(torch.float64)
    scaled = (scaled - scaled.mean(1, keepdim=True)) / torch.where(usable, noise, 1.0).sqrt()[
        :, None, None
    ]
    terms = _terms(scaled, partners, seeds, draws).cpu()
    flags = zip(nonfinite_items(x), constant_items(x), usable.tolist(), limits, strict=True)
    estimates = []
    for i, (nan, flat, good, limit) in enumerate(flags):
        reason = "nan" if nan else "constant" if flat else "" if good else "bandwidth"
        reason = reason or ("classes" if limit <= 0 else "")
        if reason:
            estimates.append(_missing(reason, estimator, n, d, draws))
            continue
        means = terms[i].mean(-1).tolist()
        error = float(terms[i, 0].std()) / math.sqrt(n)
        mean, deviation = null_of(means[1:])
        estimates.append(
            Estimate(
                means[0], "nats", n, estimator, VERSION, mean, deviation, limit, means[0] > SATURATION * limit,
                (means[0] - 1.96 * error, means[0] + 1.96 * error),
                parameters={"d": d, "draws": draws, "variance": float(noise[i])},
            )
        )  # fmt: skip
    return estimates


def _terms(x: Tensor, partners: Tensor, seeds: Sequence[int], draws: int) -> Tensor:
    """Return the terms of every row, means over draws, ``(t, 1 + permutations, n)``; x in units of the noise."""
    t, n, d = x.shape
    generators = [torch.Generator().manual_seed(seed % 2**63) for seed in seeds]
    norms = x.square().sum(-1)
    terms = torch.zeros(*partners.shape, dtype=torch.float64, device=x.device)
    step = max(1, BLOCK_ELEMENTS // (t * n))
    for _ in range(draws):
        drawn = [torch.randn(n, d, generator=g, dtype=torch.float64) for g in generators]
        noise = torch.stack(drawn).to(x.device)
        z = x + noise
        own = -0.5 * noise.square().sum(-1)
        for start in range(0, n, step):
            part = slice(start, start + step)
            near = z[:, part] @ x.mT - 0.5 * (
                z[:, part].square().sum(-1)[..., None] + norms[:, None]
            )
            for j in range(partners.shape[1]):
                is_same = partners[:, j, part, None] == partners[:, j, None, :]
                total = near.masked_fill(~is_same, -torch.inf).logsumexp(-1)
                terms[:, j, part] += own[:, part] - total + is_same.sum(-1).double().log()
    return terms / draws


def _check(
    x: Tensor, variances: Sequence[float] | None, seeds: Sequence[int], draws: int
) -> tuple[int, int, int]:
    given = x.shape[0] if variances is None else len(variances)
    if x.ndim != 3 or given != x.shape[0] or len(seeds) != x.shape[0] or draws < 1:
        raise ValueError(
            "x, variances, seeds, draws: expected (t, n, d), t, t and 1 or more; got "
            f"{tuple(x.shape)}, {given}, {len(seeds)}, {draws}"
        )
    t, n, d = x.shape
    return t, n, d


def _missing(reason: str, estimator: str, n: int, d: int, draws: int) -> Estimate:
    return Estimate.missing(
        reason,
        unit="nats",
        n=n,
        estimator=estimator,
        version=VERSION,
        parameters={"d": d, "draws": draws},
    )
