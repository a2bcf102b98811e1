"""Every estimator says the same on a CPU and on a CUDA device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
import torch

from infoplane import estimators as e
from infoplane.estimators import Estimate
from infoplane.estimators.geometry import fisher_rao as fisher
from infoplane.estimators.mutual_information.conditional_cauchy_schwarz import (
    conditional_cs_divergence,
)
from infoplane.estimators.state import Moments

Call = Callable[[Any], Any]
SEEDS = [1, 2, 3]


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


X, Y = drawn(3, 256, 8, seed=0), drawn(3, 256, 8, seed=1)
Y = 0.6 * X + Y
Z = torch.arange(256).repeat(3, 1) % 5
THIN, OTHER = X[..., :3], Y[..., :3]
RUNS = drawn(3, 2, 128, 8, seed=2)
LOG_P, LOG_Q = (drawn(3, 20, 9, seed=s).log_softmax(-1) for s in (3, 4))
MOMENTS, LATER = ([Moments.of_rows(x.numpy()) for x in side] for side in (X, Y))
WIDTHS = [2.0] * 3

CALLS: dict[str, Call] = {
    "ksg": lambda d: e.ksg(X.to(d), Y.to(d)),
    "ksg_labels": lambda d: e.ksg_labels(X.to(d), Z.to(d)),
    "ksg_scalar": lambda d: e.ksg_scalar(X[:, :, 0].to(d), Y[0, :, 0].to(d), seeds=SEEDS),
    "heldout_ksg": lambda d: e.heldout_ksg(X.to(d), Y.to(d), seeds=SEEDS),
    "heldout_ksg_labels": lambda d: e.heldout_ksg_labels(X.to(d), Z.to(d), seeds=SEEDS),
    "gaussian_mi": lambda d: e.gaussian_mi(X.to(d), Y.to(d), seeds=SEEDS),
    "compressed_knn": lambda d: e.compressed_knn(X.to(d), Y.to(d), seeds=SEEDS),
    "compressed_knn_labels": lambda d: e.compressed_knn_labels(X.to(d), Z.to(d), seeds=SEEDS),
    "supervised_mi": lambda d: e.supervised_mi(X.to(d), Y.to(d), seeds=SEEDS),
    "cs_qmi": lambda d: e.cs_qmi(X.to(d), Y.to(d), bandwidths=None, seeds=SEEDS),
    "cs_qmi by features": lambda d: e.cs_qmi(
        X.to(d), Y.to(d), bandwidths=[(3.0, 4.0)] * 3, seeds=SEEDS, method="fourier", features=64
    ),
    "conditional_cs_divergence": lambda d: conditional_cs_divergence(
        X.to(d), THIN.to(d), OTHER.to(d), bandwidths=None, seeds=SEEDS
    ),
    "kde_bounds": lambda d: e.kde_bounds(X.to(d), variances=WIDTHS, seeds=SEEDS),
    "kde_label_bounds": lambda d: e.kde_label_bounds(
        X.to(d), Z.to(d), variances=WIDTHS, seeds=SEEDS
    ),
    "choose_noise": lambda d: e.choose_noise(X.to(d)),
    "noise_mi": lambda d: e.noise_mi(X.to(d), variances=WIDTHS, seeds=SEEDS),
    "conditional_noise_mi": lambda d: e.conditional_noise_mi(
        X.to(d), Z.to(d), variances=WIDTHS, seeds=SEEDS
    ),
    "sequence_mi": lambda d: e.sequence_mi(RUNS.to(d), seeds=SEEDS),
    "weighted_kl_entropy": lambda d: e.weighted_kl_entropy(THIN.to(d), seeds=SEEDS),
    "compressed_entropy": lambda d: e.compressed_entropy(X.to(d), seeds=SEEDS),
    "soft_entropy": lambda d: e.soft_entropy(X.to(d)),
    "soft_information": lambda d: e.soft_information(X.to(d), Z.to(d), seeds=SEEDS),
    "soft_mi": lambda d: e.soft_mi(X.to(d), Z.to(d), seeds=SEEDS),
    "binned_entropy": lambda d: e.binned_entropy(X.to(d)),
    "binned_mi": lambda d: e.binned_mi(X.to(d), Z.to(d), seeds=SEEDS),
    "median_distance": lambda d: e.median_distance(X.to(d)),
    "diffusion_entropy": lambda d: e.diffusion_entropy(X.to(d), bandwidths=WIDTHS, seeds=SEEDS),
    "diffusion_entropy, anisotropic": lambda d: e.diffusion_entropy(
        X.to(d), bandwidths=WIDTHS, seeds=SEEDS, kernel="anisotropic", power=2
    ),
    "diffusion_mi": lambda d: e.diffusion_mi(X.to(d), Z.to(d), bandwidths=WIDTHS, seeds=SEEDS),
    "manifold_capacity": lambda d: e.manifold_capacity(X.to(d), Z.to(d), seeds=SEEDS),
    "usable_information": lambda d: e.usable_information(X.to(d), Z.to(d), seeds=SEEDS),
    "von_neumann_entropy": lambda d: e.von_neumann_entropy(MOMENTS, device=d),
    "effective_rank": lambda d: e.effective_rank(MOMENTS, device=d),
    "representation_rate": lambda d: e.representation_rate(MOMENTS, device=d),
    "epsilon_rank": lambda d: e.epsilon_rank(MOMENTS, device=d),
    "fisher_step": lambda d: e.fisher_step(LATER, MOMENTS, device=d),
    "fisher_mean_step": lambda d: fisher.fisher_mean_step(LATER, MOMENTS, device=d),
    "depth_profile": lambda d: fisher.depth_profile(MOMENTS, device=d),
    "policy_fisher_step": lambda d: e.policy_fisher_step(LOG_P.to(d), LOG_Q.to(d)),
    "checkpoint_mixture_gain": lambda d: [e.checkpoint_mixture_gain(LOG_P[0].to(d))],
}


FLOAT32 = {"supervised_mi"}  # a network


def numbers(found: Any) -> Iterator[float]:
    """Yield everything that an answer says in numbers."""
    if isinstance(found, torch.Tensor):
        yield from found.double().cpu().flatten().tolist()
    elif isinstance(found, Estimate):
        assert found.defined, found.undefined
        for value in (found.value, found.null_mean, found.ceiling, *(found.band or ())):
            if value is not None:
                yield float(value)
    elif is_dataclass(found):
        for field in fields(found):
            yield from numbers(getattr(found, field.name))
    else:
        for one in found:
            yield from numbers(one)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_an_estimator_says_the_same_on_both(cuda: torch.device, name: str) -> None:
    expected, found = (list(numbers(CALLS[name](device))) for device in (torch.device("cpu"), cuda))
    tolerance = 1e-4 if name in FLOAT32 else 1e-5
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def test_every_estimator_on_tensors_has_a_call() -> None:
    """Runs without a device, too: a new estimator must not be forgotten here."""
    for name, call in CALLS.items():
        assert list(numbers(call(torch.device("cpu")))), name
    known = " ".join(CALLS)
    host_only = {
        "Estimate", "CauchySchwarz", "FisherPath", "GaussianBottleneck", "PrequentialCode", "TapPredictability",
        "UsableInformation", "activation_dead_ratio", "activation_entropy", "activation_gain", "coarsen_labels",
        "cs_qmi_of_fourier", "gaussian_bottleneck", "gaussian_mi_of_moments", "generalization_gap", "join_integrity",
        "label_entropy", "prequential_code_length", "prequential_regret", "tap_predictability", "token_entropy",
        "spectra", "usable_accuracy", "usable_information_bits", "usable_information_score",
    }  # fmt: skip
    assert {n for n in e.__all__ if n not in known} <= host_only
