"""Registry entries of the information, entropy and geometry of representations."""

from __future__ import annotations

from typing import Any, Final

from infoplane.collector.metrics import computations as c
from infoplane.collector.metrics import entropy_metrics as e
from infoplane.collector.metrics import geometry_metrics as g
from infoplane.collector.metrics import kernel_metrics as k
from infoplane.collector.metrics import sequence_metrics as s
from infoplane.collector.metrics.anchor_needs import AnchorPredictions, CheckpointLogProbs
from infoplane.collector.metrics.joint_needs import JointMoments, JointPerTap, JointToLast
from infoplane.collector.metrics.metric import Metric, Source
from infoplane.collector.metrics.needs import (
    LabelledRows,
    NeighbourRows,
    TapMoments,
    TokenColumn,
)
from infoplane.collector.metrics.representation_needs import (
    ActivationInputs,
    TapRows,
    TapRuns,
    TwoScalars,
)

_TAP: Final = ("layer", "tap")
_LABELLED: Final = ("label", "layer", "tap")
_PAIR: Final = ("layer", "pair")

# Costly sources take turns: in every window of a cycle of 4 about the same is computed.
_SPECTRUM: Final[dict[str, Any]] = {"cadence": 4, "phase": 1}
_SPECTRUM_OF_CLASSES: Final[dict[str, Any]] = {"cadence": 4, "phase": 3}
_KERNELS: Final[dict[str, Any]] = {"cadence": 4, "phase": 2}
_NEIGHBOURS: Final[dict[str, Any]] = {"cadence": 4, "phase": 0}


def spectrum_sources(estimator: str) -> tuple[Source, ...]:
    """Return the source of a metric of the covariance's eigenvalues: they are computed once for all."""
    options = {"distortion": 0.05, "eps": 0.05}
    return (Source(estimator, TapMoments(), c.spectrum, family="spectrum", options=options),)


def _movement() -> tuple[Source, ...]:
    return (Source("fisher_rao", TapMoments(), g.movement, family="movement", remembers=True),)


def _joint() -> tuple[Source, ...]:
    return (
        Source("gaussian", JointPerTap(), g.one_from_the_others, family="joint", remembers=True),
    )


def _bottleneck() -> tuple[Source, ...]:
    return (
        Source("gaussian_bottleneck", JointToLast(), g.bottleneck, family="bottleneck", tier="opt"),
    )


def _code() -> tuple[Source, ...]:
    return (
        Source(
            "prequential", TokenColumn("log_prob"), s.code_length, family="code", remembers=True
        ),
    )


def _bounds() -> tuple[Source, ...]:
    return (
        Source(
            "kernel_bounds",
            TapRows(),
            k.kernel_bounds,
            family="kernel_bounds",
            remembers=True,
            options={"rows": 512},
            **_KERNELS,
        ),
    )


def _cauchy_schwarz() -> tuple[Source, ...]:
    return (
        Source(
            "cauchy_schwarz",
            NeighbourRows(),
            k.cauchy_schwarz,
            family="cauchy_schwarz",
            remembers=True,
            options={"rows": 1024, "permutations": 1},
            **_KERNELS,
        ),
    )


def _manifolds() -> tuple[Source, ...]:
    return (
        Source(
            "manifold_capacity",
            LabelledRows(),
            g.class_manifolds,
            family="manifolds",
            # More labels than 32 make the eigenvalue problems of a GPU slow, and centroids no clearer.
            options={"per_label": 2, "spread_per_label": 8, "labels_used": 32, "drawn": 128},
        ),
    )


MORE_MUTUAL_INFORMATION: Final = (
    Source(
        "compressed_knn",
        NeighbourRows(),
        e.compressed_pairs,
        options={"permutations": 1},
        **_NEIGHBOURS,
    ),
    Source(
        "compressed_knn",
        LabelledRows(),
        e.compressed_labels,
        options={"permutations": 1},
        **_NEIGHBOURS,
    ),
    Source("supervised", NeighbourRows(), e.second_opinion, tier="opt", cadence=4, phase=3),
)

REPRESENTATION_METRICS: Final[tuple[Metric, ...]] = (
    Metric(
        "differential_entropy_nats",
        "nats",
        "Differential entropy of the 4 leading principal components of a tap, in nats.",
        _TAP,
        (Source("compressed_entropy", TapRows(), e.compressed_spread, **_NEIGHBOURS),),
        papers=(1,),
        reading="Moves with the scale of the rows; compare windows of one tap only.",
    ),
    Metric(
        "diffusion_spectral_entropy_bits",
        "bits",
        "Entropy of the diffusion spectrum of a tap's rows at the first window's bandwidth, in bits.",
        _TAP,
        (
            Source(
                "diffusion_entropy",
                TapRows(),
                k.spectral_entropy,
                remembers=True,
                options={"rows": 512, "kernel": "walk", "power": 1, "band": True},
                **_SPECTRUM,
            ),
        ),
        papers=(23,),
        reading="The number of separate groups of rows, as a logarithm. A fall means that rows run together; near the "
        "ceiling the bandwidth is too small to see groups.",
    ),
    Metric(
        "diffusion_spectral_mi_bits",
        "bits",
        "What the next token's bucket says about the diffusion spectrum of a tap, in bits.",
        _LABELLED,
        (
            Source(
                "diffusion_mi",
                LabelledRows(),
                k.spectral_information,
                remembers=True,
                options={"rows": 512, "kernel": "walk", "repetitions": 5, "permutations": 1},
                **_SPECTRUM_OF_CLASSES,
            ),
        ),
        papers=(23,),
        reading="Rises while the tap learns to tell labels apart; stays at its null on labels that mean nothing.",
    ),
    Metric(
        "cs_qmi_bits",
        "bits",
        "Cauchy-Schwarz quadratic mutual information of neighbouring taps, in bits; no Shannon information.",
        _PAIR,
        _cauchy_schwarz(),
        papers=(20,),
        reading="Compare with its null and with itself only: the size depends on the bandwidth and the width.",
    ),
    Metric(
        "cs_qmi_ratio",
        "ratio",
        "Cauchy-Schwarz quadratic mutual information of neighbouring taps over that of each with itself.",
        _PAIR,
        _cauchy_schwarz(),
        papers=(20,),
        reading="One: the taps have the same neighbourhoods; zero: they are independent.",
    ),
    Metric(
        "soft_entropy_ratio",
        "ratio",
        "Entropy of the soft assignment of a tap's directions to 100 fixed points, over its largest value.",
        _TAP,
        (Source("soft_entropy", TapRows(), e.soft_spread),),
        papers=(),
        reading="One: directions fill the sphere. The temperature sets a floor above zero.",
    ),
    Metric(
        "soft_mi_ratio",
        "ratio",
        "What the next token's bucket says about the soft assignment of a tap's directions, less its null.",
        _LABELLED,
        (Source("soft_mi", LabelledRows(), e.soft_about_labels, options={"permutations": 4}),),
        papers=(),
        reading="Zero: nothing beyond chance.",
    ),
    Metric(
        "binned_entropy_bits",
        "bits",
        "Mean entropy of a tap's columns in 30 bins of equal counts of distinct values, in bits.",
        _TAP,
        (Source("binned_entropy", TapRows(), e.binned_spread, options={"bins": 30}),),
        papers=(25,),
        reading="log2 30 = 4.91 unless values repeat: a fall means that columns take few values.",
    ),
    Metric(
        "binned_mi_bits",
        "bits",
        "Mean information of a tap's binned columns about the next token's bucket, in bits.",
        _LABELLED,
        (
            Source(
                "binned_mi",
                LabelledRows(),
                e.binned_information,
                options={"bins": 30, "permutations": 1},
            ),
        ),
        papers=(25,),
        reading="Of single columns: what only combinations of columns say is not in it.",
    ),
    Metric(
        "kde_mi_upper_nats",
        "nats",
        "Upper bound of the information that a noisy copy of a tap has about it, in nats.",
        _TAP,
        _bounds(),
        papers=(25,),
        reading="With the lower bound: how many rows can be told apart under noise of the first window's size.",
    ),
    Metric(
        "kde_mi_lower_nats",
        "nats",
        "Lower bound of the information that a noisy copy of a tap has about it, in nats.",
        _TAP,
        _bounds(),
        papers=(25,),
    ),
    Metric(
        "conditional_noise_mi_nats",
        "nats",
        "Information that a noisy copy of a tap has about it within classes of the next token's bucket, in nats.",
        _LABELLED,
        (
            Source(
                "conditional_noise_mi",
                LabelledRows(),
                k.noise_information,
                remembers=True,
                tier="opt",
                options={"rows": 512},
                **_KERNELS,
            ),
        ),
        papers=(17,),
        reading="What a tap keeps of the input beyond the label; read it beside generalization_gap_nats.",
    ),
    Metric(
        "generalization_gap_nats",
        "nats",
        "Mean of the logged scalar `eval_loss` less that of `loss`, in nats.",
        (),
        (Source("difference", TwoScalars("loss", "eval_loss"), s.gap_of_losses, tier="opt"),),
        papers=(17,),
        reading="Rises when the run memorises.",
    ),
    Metric(
        "manifold_capacity_ratio",
        "ratio",
        "Nuclear norm of the centroids of the next token's buckets over its bound.",
        _LABELLED,
        _manifolds(),
        papers=(26,),
        reading="One: centroids of 2 rows point all ways; collapse brings it to 1 over the root of their number.",
    ),
    Metric(
        "manifold_spread",
        "1",
        "Mean nuclear norm of 8 rows of one of the next token's buckets over root 8; 1 if they are all alike.",
        _LABELLED,
        _manifolds(),
        papers=(26,),
        reading="Falls as soon as rows of a class become alike.",
    ),
    Metric(
        "representation_rate_bits",
        "bits",
        "Bits a row of a Gaussian with the tap's covariance takes at 5 % distortion.",
        _TAP,
        spectrum_sources("rate_distortion"),
        papers=(34,),
        reading="Falls when representations get simpler.",
    ),
    Metric(
        "epsilon_rank",
        "1",
        "Directions that hold 95 % of a tap's variance.",
        _TAP,
        spectrum_sources("epsilon_rank"),
        papers=(34,),
        reading="At most the width of the projection.",
    ),
    Metric(
        "sequence_mi_nats",
        "nats",
        "Lower bound of the information between tokens at most two places apart, in nats.",
        _TAP,
        (Source("sequence_infonce", TapRuns(), s.along_the_sequence, options={"permutations": 1}),),
        papers=(16,),
        reading="At its ceiling neighbours are told from all other tokens of the run; at the null order does not show.",
    ),
    Metric(
        "representation_fisher_step",
        "1",
        "Fisher-Rao distance of a tap's covariance from that of the last window, less what chance gives.",
        _TAP,
        _movement(),
        papers=(8,),
        reading="The speed of the representation. A jump while the loss is flat: look at the batch, a resumed "
        "optimizer, the tokenizer.",
    ),
    Metric(
        "fisher_path_length",
        "1",
        "Sum of a tap's Fisher-Rao steps since the first window.",
        _TAP,
        _movement(),
        papers=(8,),
    ),
    Metric(
        "fisher_path_efficiency_ratio",
        "ratio",
        "Distance of a tap's covariance from the first window's, over the length of its path.",
        _TAP,
        _movement(),
        papers=(8,),
        reading="One: straight on; near zero: to and fro.",
    ),
    Metric(
        "policy_fisher_step",
        "1",
        "Mean Fisher-Rao distance of the predictions at the anchors from those of the last pass; a lower bound.",
        (),
        (Source("policy_fisher_step", AnchorPredictions(), s.step_of_policy, remembers=True),),
        papers=(8,),
        reading="The natural unit of how fast the model's output changes. Needs `monitor.anchor`.",
    ),
    Metric(
        "tap_predictability_nats",
        "nats",
        "Gaussian information between a tap and all others that are seen with it, in nats.",
        _TAP,
        _joint(),
        papers=(15,),
        reading="Of one tap alone near zero: its rows are not those of the others.",
    ),
    Metric(
        "tap_join_integrity_ratio",
        "ratio",
        "Predictability of a tap over its median in the last 20 windows.",
        _TAP,
        _joint(),
        papers=(15,),
        reading="Below 0.3: rows were joined wrongly, or activations are corrupt; trust no metric across taps.",
    ),
    Metric(
        "tap_total_correlation_nats",
        "nats",
        "Gaussian total correlation of up to 8 taps, in nats.",
        (),
        (Source("gaussian", JointMoments(), g.total_correlation),),
        papers=(15,),
    ),
    Metric(
        "predictive_information_nats",
        "nats",
        "Gaussian information of a tap about the last one, in nats.",
        _PAIR,
        _bottleneck(),
        papers=(24,),
        reading="Where it falls from tap to tap, what the end needs is lost or not there yet.",
    ),
    Metric(
        "critical_beta",
        "1",
        "Weight of relevance at which the first direction of a tap is worth keeping for the last one.",
        _PAIR,
        _bottleneck(),
        papers=(24,),
        reading="One over the largest squared canonical correlation: rises when all correlations fall.",
    ),
    Metric(
        "information_rank",
        "1",
        "Directions of a tap that are worth keeping for the last one at a weight of 10.",
        _PAIR,
        _bottleneck(),
        papers=(24,),
    ),
    Metric(
        "activation_entropy_gain_nats",
        "nats",
        "Mean log slope of the activation function at its inputs: entropy that it adds, in nats.",
        _TAP,
        (Source("activation_gain", ActivationInputs(), s.gain_of_activation),),
        papers=(18,),
        reading="Below zero the function squeezes its inputs; for ReLU only the share that passes counts.",
    ),
    Metric(
        "prequential_code_length_nats",
        "nats",
        "Code length of the sampled tokens so far, each coded before the model learned from it, in nats.",
        (),
        _code(),
        papers=(19,),
    ),
    Metric(
        "prequential_regret_nats",
        "nats",
        "Code length so far beyond that of the best trailing mean, in nats.",
        (),
        _code(),
        papers=(19,),
        reading="A slope means that the run codes worse than it could.",
    ),
    Metric(
        "checkpoint_mixture_gain_nats",
        "nats",
        "What the mixture of the last 4 anchor passes saves on the anchors' tokens against their average, in nats.",
        (),
        (
            Source(
                "checkpoint_mixture", CheckpointLogProbs(), s.mixture_of_checkpoints, remembers=True
            ),
        ),
        papers=(19,),
        reading="Large while checkpoints know different things. Needs `monitor.anchor`.",
    ),
)
