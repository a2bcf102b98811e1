"""From inputs to estimates: one call per metric and window, batched over taps.

Each function answers one estimate per input, in order. Inputs of equal shape go through the estimator together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import numpy as np
import torch

from infoplane.collector.estimate.view import Norms
from infoplane.collector.metrics.metric import Compute, Context
from infoplane.collector.metrics.needs import Labelled, Pair, TokenValues
from infoplane.estimators import (
    Estimate,
    activation_dead_ratio,
    activation_entropy,
    coarsen_labels,
    effective_rank,
    epsilon_rank,
    gaussian_mi,
    heldout_ksg,
    heldout_ksg_labels,
    representation_rate,
    spectra,
    token_entropy,
    usable_information,
    von_neumann_entropy,
)
from infoplane.estimators.state import LogHistogram, Moments
from infoplane.wire import infoplane_pb2 as pb

T = TypeVar("T")
A = TypeVar("A")


def spectrum(inputs: Sequence[Moments], context: Context) -> list[dict[str, Estimate]]:
    """What the eigenvalues of a covariance say, from one decomposition: entropy, ranks, description length."""
    found = spectra(list(inputs), device=context.device)
    entropies = von_neumann_entropy(found)
    parts = {
        "von_neumann_entropy_nats": entropies,
        "effective_rank": effective_rank(entropies),
        "representation_rate_bits": representation_rate(
            found, distortion=context.options["distortion"]
        ),
        "epsilon_rank": epsilon_rank(found, eps=context.options["eps"]),
    }
    return [{name: part[i] for name, part in parts.items()} for i in range(len(inputs))]


def pair_information(inputs: Sequence[Pair], context: Context) -> list[Estimate]:
    """Held-out canonical + KSG mutual information of pairs."""
    return _paired(inputs, context, heldout_ksg)


def gaussian_information(inputs: Sequence[Pair], context: Context) -> list[Estimate]:
    """Bias-corrected Gaussian mutual information of pairs."""
    return _paired(inputs, context, gaussian_mi)


def label_information(inputs: Sequence[Labelled], context: Context) -> list[Estimate]:
    """Held-out canonical + Ross mutual information with a class, coarsened to what n rows can carry."""
    coarse = [Labelled(one.x, coarsen_labels(one.labels)[0]) for one in inputs]
    return _labelled(coarse, context, heldout_ksg_labels)


def usable(inputs: Sequence[Labelled], context: Context) -> list[dict[str, Estimate]]:
    """Usable information: score, bits, and the accuracy of the same closed-form classifier."""

    def run(some: list[Labelled], seeds: list[int]) -> list[dict[str, Estimate]]:
        labels = torch.from_numpy(np.stack([one.labels for one in some])).to(context.device)
        found = usable_information(stack([one.x for one in some], context), labels, seeds=seeds)
        return [
            {
                "usable_information_score_ratio": one.score,
                "usable_information_bits": one.bits,
                "usable_accuracy_ratio": one.accuracy,
            }
            for one in found
        ]

    return by_shape(inputs, context, lambda one: one.x.shape, run)


def entropy_of_activation(inputs: Sequence[LogHistogram], context: Context) -> list[Estimate]:
    """Activation entropy."""
    return activation_entropy(list(inputs))


def dead_share(inputs: Sequence[LogHistogram], context: Context) -> list[Estimate]:
    """Share of zero activations."""
    return activation_dead_ratio(list(inputs))


def entropy_of_policy(inputs: Sequence[TokenValues], context: Context) -> list[Estimate]:
    """Mean entropy of the next-token distribution."""
    return [token_entropy(one.values, vocabulary=one.vocabulary or None) for one in inputs]


def mean_surprisal(inputs: Sequence[TokenValues], context: Context) -> list[Estimate]:
    """Mean of -log p(target), nats, with a band of 1.96 standard errors."""
    return [_mean_estimate(-one.values, "nats", "mean_surprisal") for one in inputs]


def root_mean_square_norm(inputs: Sequence[Norms], context: Context) -> list[Estimate]:
    """Root mean square of the row norm, divided by sqrt(width): 1 for unit-variance elements."""
    estimates = []
    for one in inputs:
        known = {"unit": "1", "n": int(one.n), "estimator": "rms", "version": 1}
        if one.nonfinite:
            estimates.append(Estimate.missing("nan", **known))  # type: ignore[arg-type]
        elif one.n < 1 or one.width < 1:
            estimates.append(Estimate.missing("n", **known))  # type: ignore[arg-type]
        else:
            value = float(np.sqrt(one.sum_square / one.n / one.width))
            estimates.append(Estimate(value, "1", int(one.n), "rms", 1))
    return estimates


def scalar_mean(inputs: Sequence[pb.ScalarSum], context: Context) -> list[Estimate]:
    """Mean over ranks and steps of a logged scalar, with its range as band."""
    estimates = []
    for one in inputs:
        if one.nonfinite or one.n < 1:
            reason = "nan" if one.nonfinite else "n"
            estimates.append(
                Estimate.missing(reason, unit="1", n=int(one.n), estimator="mean", version=1)
            )
        else:
            estimates.append(
                Estimate(
                    one.total / one.n,
                    "1",
                    int(one.n),
                    "mean",
                    1,
                    band=(one.minimum, one.maximum),
                )
            )
    return estimates


def present_share(inputs: Sequence[tuple[int, int]], context: Context) -> list[Estimate]:
    """Present over expected (sender, step) pairs."""
    return [
        Estimate(present / expected, "ratio", expected, "count", 1)
        if expected
        else Estimate.missing("n", unit="ratio", n=0, estimator="count", version=1)
        for present, expected in inputs
    ]


def total(unit: str) -> Compute:
    """Return a computation that adds up counters, in `unit`."""

    def compute(inputs: Sequence[dict[str, float]], context: Context) -> list[Estimate]:
        return [
            Estimate(sum(one.values()), unit, 1, "sum", 1)  # type: ignore[arg-type]
            for one in inputs
        ]

    return compute


def agent_overhead(inputs: Sequence[dict[str, float]], context: Context) -> list[Estimate]:
    """The agents' time on the training thread plus their threads' CPU, over the time of all steps."""
    estimates = []
    for one in inputs:
        steps = one["step_seconds"]
        spent = sum(one.values()) - steps
        if steps > 0:
            estimates.append(Estimate(spent / steps, "ratio", 1, "time", 1))
        else:
            estimates.append(Estimate.missing("n", unit="ratio", n=0, estimator="time", version=1))
    return estimates


def _paired(
    inputs: Sequence[Pair], context: Context, estimator: Callable[..., list[Estimate]]
) -> list[Estimate]:
    return by_shape(
        inputs,
        context,
        lambda one: (one.x.shape, one.y.shape),
        lambda some, seeds: estimator(
            stack([one.x for one in some], context),
            stack([one.y for one in some], context),
            seeds=seeds,
            **context.options,
        ),
    )


def _labelled(
    inputs: Sequence[Labelled],
    context: Context,
    estimator: Callable[..., list[Estimate]],
) -> list[Estimate]:
    return by_shape(
        inputs,
        context,
        lambda one: one.x.shape,
        lambda some, seeds: estimator(
            stack([one.x for one in some], context),
            torch.from_numpy(np.stack([one.labels for one in some])).to(context.device),
            seeds=seeds,
            **context.options,
        ),
    )


def by_shape(
    inputs: Sequence[T],
    context: Context,
    shape_of: Callable[[T], Hashable],
    run: Callable[[list[T], list[int]], Sequence[A]],
) -> list[A]:
    """Run inputs of equal shape together and put the answers back in order."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for place, one in enumerate(inputs):
        groups[shape_of(one)].append(place)
    answers: dict[int, A] = {}
    for places in groups.values():
        some = [inputs[place] for place in places]
        seeds = [context.seeds[place] for place in places]
        answers.update(zip(places, run(some, seeds), strict=True))
    return [answers[place] for place in range(len(inputs))]


def stack(arrays: list[np.ndarray], context: Context) -> torch.Tensor:
    """Return arrays of equal shape as one tensor on the device."""
    return torch.from_numpy(np.stack(arrays)).to(context.device)


def _mean_estimate(values: np.ndarray, unit: str, estimator: str) -> Estimate:
    n = len(values)
    known = {"unit": unit, "n": n, "estimator": estimator, "version": 1}
    if n < 2:
        return Estimate.missing("n", **known)  # type: ignore[arg-type]
    if not np.isfinite(values).all():
        return Estimate.missing("nan", **known)  # type: ignore[arg-type]
    mean = float(values.mean())
    half = 1.96 * float(values.std(ddof=1)) / n**0.5
    return Estimate(mean, unit, n, estimator, 1, band=(mean - half, mean + half))  # type: ignore[arg-type]
