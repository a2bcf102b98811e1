"""Estimators of information, entropy and geometry: pure functions on arrays.

No I/O, no clock, no configuration, no global random state. Names are loaded on first use,
so that importing `infoplane.estimators.state` needs numpy and nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infoplane.estimators.entropy.activation import (
        activation_dead_ratio,
        activation_entropy,
    )
    from infoplane.estimators.entropy.activation_gain import (
        activation_gain,
    )
    from infoplane.estimators.entropy.binned import (
        binned_entropy,
        binned_mi,
    )
    from infoplane.estimators.entropy.compressed import (
        compressed_entropy,
    )
    from infoplane.estimators.entropy.nearest_neighbours import (
        weighted_kl_entropy,
    )
    from infoplane.estimators.entropy.prequential import (
        PrequentialCode,
        checkpoint_mixture_gain,
        prequential_code_length,
        prequential_regret,
    )
    from infoplane.estimators.entropy.soft import (
        soft_entropy,
        soft_information,
        soft_mi,
    )
    from infoplane.estimators.entropy.token import (
        token_entropy,
    )
    from infoplane.estimators.estimate import (
        Estimate,
    )
    from infoplane.estimators.geometry.categorical_fisher import (
        policy_fisher_step,
    )
    from infoplane.estimators.geometry.diffusion_entropy import (
        diffusion_entropy,
    )
    from infoplane.estimators.geometry.diffusion_information import (
        diffusion_mi,
    )
    from infoplane.estimators.geometry.diffusion_kernel import (
        median_distance,
    )
    from infoplane.estimators.geometry.fisher_path import (
        FisherPath,
    )
    from infoplane.estimators.geometry.fisher_rao import (
        fisher_step,
    )
    from infoplane.estimators.geometry.generalization import (
        generalization_gap,
    )
    from infoplane.estimators.geometry.manifold_capacity import (
        manifold_capacity,
    )
    from infoplane.estimators.geometry.rate_distortion import (
        epsilon_rank,
        representation_rate,
    )
    from infoplane.estimators.geometry.spectrum import (
        spectra,
    )
    from infoplane.estimators.geometry.usable_information import (
        UsableInformation,
        usable_accuracy,
        usable_information,
        usable_information_bits,
        usable_information_score,
    )
    from infoplane.estimators.geometry.von_neumann import (
        effective_rank,
        von_neumann_entropy,
    )
    from infoplane.estimators.mutual_information.cauchy_schwarz import (
        CauchySchwarz,
        cs_qmi,
        cs_qmi_of_fourier,
    )
    from infoplane.estimators.mutual_information.columns import (
        ksg_scalar,
    )
    from infoplane.estimators.mutual_information.compressed_knn import (
        compressed_knn,
        compressed_knn_labels,
    )
    from infoplane.estimators.mutual_information.gaussian import (
        gaussian_mi,
        gaussian_mi_of_moments,
    )
    from infoplane.estimators.mutual_information.gaussian_bottleneck import (
        GaussianBottleneck,
        gaussian_bottleneck,
    )
    from infoplane.estimators.mutual_information.heldout_ksg import (
        heldout_ksg,
        heldout_ksg_labels,
    )
    from infoplane.estimators.mutual_information.kernel_bounds import (
        choose_noise,
        kde_bounds,
        kde_label_bounds,
    )
    from infoplane.estimators.mutual_information.ksg import (
        ksg,
        ksg_labels,
    )
    from infoplane.estimators.mutual_information.labels import (
        coarsen_labels,
        label_entropy,
    )
    from infoplane.estimators.mutual_information.noise import (
        conditional_noise_mi,
        noise_mi,
    )
    from infoplane.estimators.mutual_information.predictability import (
        TapPredictability,
        join_integrity,
        tap_predictability,
    )
    from infoplane.estimators.mutual_information.sequence import (
        sequence_mi,
    )
    from infoplane.estimators.mutual_information.supervised.estimate import (
        supervised_mi,
    )

_HOME = {
    "CauchySchwarz": "mutual_information.cauchy_schwarz",
    "Estimate": "estimate",
    "FisherPath": "geometry.fisher_path",
    "GaussianBottleneck": "mutual_information.gaussian_bottleneck",
    "PrequentialCode": "entropy.prequential",
    "TapPredictability": "mutual_information.predictability",
    "UsableInformation": "geometry.usable_information",
    "activation_dead_ratio": "entropy.activation",
    "activation_entropy": "entropy.activation",
    "activation_gain": "entropy.activation_gain",
    "binned_entropy": "entropy.binned",
    "binned_mi": "entropy.binned",
    "checkpoint_mixture_gain": "entropy.prequential",
    "choose_noise": "mutual_information.kernel_bounds",
    "coarsen_labels": "mutual_information.labels",
    "compressed_entropy": "entropy.compressed",
    "compressed_knn": "mutual_information.compressed_knn",
    "compressed_knn_labels": "mutual_information.compressed_knn",
    "conditional_noise_mi": "mutual_information.noise",
    "cs_qmi": "mutual_information.cauchy_schwarz",
    "cs_qmi_of_fourier": "mutual_information.cauchy_schwarz",
    "diffusion_entropy": "geometry.diffusion_entropy",
    "diffusion_mi": "geometry.diffusion_information",
    "effective_rank": "geometry.von_neumann",
    "epsilon_rank": "geometry.rate_distortion",
    "fisher_step": "geometry.fisher_rao",
    "gaussian_bottleneck": "mutual_information.gaussian_bottleneck",
    "gaussian_mi": "mutual_information.gaussian",
    "gaussian_mi_of_moments": "mutual_information.gaussian",
    "generalization_gap": "geometry.generalization",
    "heldout_ksg": "mutual_information.heldout_ksg",
    "heldout_ksg_labels": "mutual_information.heldout_ksg",
    "join_integrity": "mutual_information.predictability",
    "kde_bounds": "mutual_information.kernel_bounds",
    "kde_label_bounds": "mutual_information.kernel_bounds",
    "ksg": "mutual_information.ksg",
    "ksg_labels": "mutual_information.ksg",
    "ksg_scalar": "mutual_information.columns",
    "label_entropy": "mutual_information.labels",
    "manifold_capacity": "geometry.manifold_capacity",
    "median_distance": "geometry.diffusion_kernel",
    "noise_mi": "mutual_information.noise",
    "policy_fisher_step": "geometry.categorical_fisher",
    "prequential_code_length": "entropy.prequential",
    "prequential_regret": "entropy.prequential",
    "representation_rate": "geometry.rate_distortion",
    "sequence_mi": "mutual_information.sequence",
    "soft_entropy": "entropy.soft",
    "soft_information": "entropy.soft",
    "soft_mi": "entropy.soft",
    "spectra": "geometry.spectrum",
    "supervised_mi": "mutual_information.supervised.estimate",
    "tap_predictability": "mutual_information.predictability",
    "token_entropy": "entropy.token",
    "usable_accuracy": "geometry.usable_information",
    "usable_information": "geometry.usable_information",
    "usable_information_bits": "geometry.usable_information",
    "usable_information_score": "geometry.usable_information",
    "von_neumann_entropy": "geometry.von_neumann",
    "weighted_kl_entropy": "entropy.nearest_neighbours",
}

__all__ = [
    "CauchySchwarz",
    "Estimate",
    "FisherPath",
    "GaussianBottleneck",
    "PrequentialCode",
    "TapPredictability",
    "UsableInformation",
    "activation_dead_ratio",
    "activation_entropy",
    "activation_gain",
    "binned_entropy",
    "binned_mi",
    "checkpoint_mixture_gain",
    "choose_noise",
    "coarsen_labels",
    "compressed_entropy",
    "compressed_knn",
    "compressed_knn_labels",
    "conditional_noise_mi",
    "cs_qmi",
    "cs_qmi_of_fourier",
    "diffusion_entropy",
    "diffusion_mi",
    "effective_rank",
    "epsilon_rank",
    "fisher_step",
    "gaussian_bottleneck",
    "gaussian_mi",
    "gaussian_mi_of_moments",
    "generalization_gap",
    "heldout_ksg",
    "heldout_ksg_labels",
    "join_integrity",
    "kde_bounds",
    "kde_label_bounds",
    "ksg",
    "ksg_labels",
    "ksg_scalar",
    "label_entropy",
    "manifold_capacity",
    "median_distance",
    "noise_mi",
    "policy_fisher_step",
    "prequential_code_length",
    "prequential_regret",
    "representation_rate",
    "sequence_mi",
    "soft_entropy",
    "soft_information",
    "soft_mi",
    "spectra",
    "supervised_mi",
    "tap_predictability",
    "token_entropy",
    "usable_accuracy",
    "usable_information",
    "usable_information_bits",
    "usable_information_score",
    "von_neumann_entropy",
    "weighted_kl_entropy",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__
