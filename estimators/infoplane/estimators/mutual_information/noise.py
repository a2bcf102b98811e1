"""Information that a noisy copy of a row has about the row, within classes or over all rows.

I(X; Z | Y) of "How Does Information Bottleneck Help Deep Learning?" (Kawaguchi et al., ICML 2023),
Z = X + noise of variance s: what a representation keeps beyond the label. By Monte Carlo, with
z = x_i + e and the m rows j of the class of i, itself among them,

    ln N(z; x_i, s) - ln mean_j N(z; x_j, s).

Points of evaluation carry the noise, and both terms have the same normaliser, which cancels. Every
second draw is the one before with the other sign, so that what is linear in the noise cancels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.class_groups import (
    class_groups,
    class_sizes,
    item_runs,
    kernel_terms,
    label_orders,
)
from infoplane.estimators.mutual_information.kernel_bounds import (
    check_rows,
    noisy_rows,
)
from infoplane.estimators.mutual_information.verdicts import SATURATION, null_of

CONDITIONAL = "conditional_noise_mi"
PLAIN = "noise_mi"
VERSION = 1
SEED_STEP = 0x9E3779B97F4A7C15
"""Keeps the noise apart from rows that somebody drew with a generator of the same seed."""


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

    Never more than the mean over rows of the logarithm of their class's size, up to the error of
    the draws: that is the ceiling; saturated above 0.8 of it. A class of one row adds 0, and
    ``alone`` in ``parameters`` is the share of such rows. A seed draws the same noise at every
    variance, so that the value falls with it.

    Null: labels permuted, which is not independence of X and Z but classes that say nothing: what
    the value is below it, the label explains. Band: value +- 1.96 standard errors of the rows'
    terms (means over draws), analytic, for independent rows.

    Undefined: ``"n"`` below 2 rows or without columns, ``"nan"``, ``"constant"``, ``"classes"``
    when no class has two rows, ``"bandwidth"`` as in `kde_bounds`.

    Args:
        x: Shape ``(t, n, d)``.
        labels: Shape ``(t, n)``, integers.
        variances: Of the noise, one per item; None: `choose_noise` of these rows.
        seeds: One per item, for the noise and the null.
        draws: Of the noise; best even.
        permutations: Draws of the null, 0 for none.

    Returns:
        ``t`` estimates. Cost O(t draws (1 + permutations) d sum of n_c^2), float64; memory in
        blocks.

    Raises:
        ValueError: If shapes, numbers or draws do not fit.
    """
    t, n, d = check_rows(x, variances, seeds)
    _check_draws(draws)
    if labels.shape != (t, n):
        raise ValueError(f"labels: expected {(t, n)}, got {tuple(labels.shape)}")
    if t == 0 or n < 2 or d == 0:
        return [_missing("n", CONDITIONAL, n, d, draws) for _ in range(t)]
    orders = label_orders(labels, seeds, permutations).to(x.device)
    return _estimates(x, orders, variances, seeds, draws, CONDITIONAL)


def noise_mi(
    x: Tensor, *, variances: Sequence[float] | None, seeds: Sequence[int], draws: int = 4
) -> list[Estimate]:
    """Return I(X; X + noise) in nats for every item.

    As `conditional_noise_mi` with one class: ceiling ln n, no null; ``kde_bounds`` at the same
    variance hold it between them, up to the error of the draws. Cost O(t draws n^2 d).

    Args:
        x: Shape ``(t, n, d)``.
        variances: Of the noise, one per item; None: `choose_noise` of these rows.
        seeds: One per item, for the noise.
        draws: Of the noise.

    Raises:
        ValueError: If shapes, numbers or draws do not fit.
    """
    t, n, d = check_rows(x, variances, seeds)
    _check_draws(draws)
    if t == 0 or n < 2 or d == 0:
        return [_missing("n", PLAIN, n, d, draws) for _ in range(t)]
    one_class = torch.zeros(t, 1, n, dtype=torch.int64, device=x.device)
    return _estimates(x, one_class, variances, seeds, draws, PLAIN)


def _estimates(
    x: Tensor,
    labels: Tensor,
    variances: Sequence[float] | None,
    seeds: Sequence[int],
    draws: int,
    estimator: str,
) -> list[Estimate]:
    """Return one estimate per item; ``labels (t, 1 + permutations, n)``, the first the real."""
    t, n, d = x.shape
    noisy = noisy_rows(x, variances)
    sizes = class_sizes(labels)
    limits = sizes[:, 0].double().log().mean(-1).tolist()
    alone = (sizes[:, 0] == 1).double().mean(-1).tolist()
    terms = _terms(noisy.rows, labels, sizes, seeds, draws).cpu()
    estimates = []
    for i in range(t):
        reason = noisy.reasons[i] or ("classes" if limits[i] <= 0 else "")
        if reason:
            estimates.append(_missing(reason, estimator, n, d, draws))
            continue
        value, *null = terms[i].mean(-1).tolist()
        error = float(terms[i, 0].std()) / math.sqrt(n)
        mean, deviation = null_of(null)
        estimates.append(
            Estimate(
                value=value,
                unit="nats",
                n=n,
                estimator=estimator,
                version=VERSION,
                null_mean=mean,
                null_sd=deviation,
                ceiling=limits[i],
                saturated=value > SATURATION * limits[i],
                band=(value - 1.96 * error, value + 1.96 * error),
                parameters={
                    "d": d,
                    "draws": draws,
                    "variance": noisy.variance[i],
                    **({"alone": alone[i]} if estimator == CONDITIONAL else {}),
                },
            )
        )
    return estimates


def _terms(rows: Tensor, labels: Tensor, sizes: Tensor, seeds: Sequence[int], draws: int) -> Tensor:
    """Return the rows' terms, means over draws, ``(t, p, n)``; rows in units of the noise."""
    found = []
    for items in item_runs(rows):
        held, part = rows[items], labels[items]
        t, n, d = held.shape
        generators = [
            torch.Generator().manual_seed((seed + 1) * SEED_STEP % 2**63) for seed in seeds[items]
        ]
        groups = class_groups(part)
        sums = torch.zeros(part.shape, dtype=torch.float64, device=rows.device)
        noise = torch.zeros(0)
        for draw in range(draws):
            if draw % 2:
                noise.neg_()
            else:
                drawn = [torch.randn(n, d, generator=g, dtype=torch.float64) for g in generators]
                noise = torch.stack(drawn).to(rows.device)
            sums += kernel_terms(
                held,
                groups,
                (t, part.shape[1], n),
                noise=noise,
                reduce=_log_sum,
                parts=1,
            )[0]
        found.append(sizes[items].double().log() - sums / draws)
    return torch.cat(found)


def _log_sum(exponents: Tensor) -> Tensor:
    return exponents.exp_().sum(-1).log_().unsqueeze(0)


def _check_draws(draws: int) -> None:
    if draws < 1:
        raise ValueError(f"draws: expected 1 or more, got {draws}")


def _missing(reason: str, estimator: str, n: int, d: int, draws: int) -> Estimate:
    return Estimate.missing(
        reason,
        unit="nats",
        n=n,
        estimator=estimator,
        version=VERSION,
        parameters={"d": d, "draws": draws},
    )
