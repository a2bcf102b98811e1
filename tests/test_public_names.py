"""Names that others rely on. They may be added to; renaming or removing one breaks somebody's code or dashboard."""

from __future__ import annotations

import infoplane.agent
import infoplane.wire
from infoplane.collector.metrics import METRICS
from infoplane.collector.metrics.metric import ALLOWED_LABELS

AGENT = ["Monitor", "Settings", "attach", "describe"]
WIRE = [
    "ConfigurationError",
    "DecodeError",
    "InfoplaneError",
    "Kind",
    "TransportError",
    "decode",
    "encode",
    "from_tensor",
    "to_tensor",
]
METRIC_UNITS = {
    "training_scalar": "1",
    "training_announced": "1",
    "window_completeness_ratio": "ratio",
    "von_neumann_entropy_nats": "nats",
    "effective_rank": "1",
    "mutual_information_nats": "nats",
    "activation_entropy_nats": "nats",
    "activation_dead_ratio": "ratio",
    "usable_information_score_ratio": "ratio",
    "usable_information_bits": "bits",
    "usable_accuracy_ratio": "ratio",
    "differential_entropy_nats": "nats",
    "diffusion_spectral_entropy_bits": "bits",
    "diffusion_spectral_mi_bits": "bits",
    "cs_qmi_bits": "bits",
    "cs_qmi_ratio": "ratio",
    "soft_entropy_ratio": "ratio",
    "soft_mi_ratio": "ratio",
    "binned_entropy_bits": "bits",
    "binned_mi_bits": "bits",
    "kde_mi_upper_nats": "nats",
    "kde_mi_lower_nats": "nats",
    "conditional_noise_mi_nats": "nats",
    "generalization_gap_nats": "nats",
    "manifold_capacity_ratio": "ratio",
    "manifold_spread": "1",
    "representation_rate_bits": "bits",
    "epsilon_rank": "1",
    "sequence_mi_nats": "nats",
    "representation_fisher_step": "1",
    "fisher_path_length": "1",
    "fisher_path_efficiency_ratio": "ratio",
    "policy_fisher_step": "1",
    "tap_predictability_nats": "nats",
    "tap_join_integrity_ratio": "ratio",
    "tap_total_correlation_nats": "nats",
    "predictive_information_nats": "nats",
    "critical_beta": "1",
    "information_rank": "1",
    "activation_entropy_gain_nats": "nats",
    "prequential_code_length_nats": "nats",
    "prequential_regret_nats": "nats",
    "checkpoint_mixture_gain_nats": "nats",
    "policy_entropy_nats": "nats",
    "token_surprisal_nats": "nats",
    "representation_rms": "1",
    "agent_overhead_ratio": "ratio",
    "agent_sent_records_total": "1",
    "agent_dropped_records_total": "1",
    "agent_sent_bytes_total": "bytes",
    "reward_posterior_variance_mean": "1",
    "reward_uncertainty_ratio": "ratio",
    "reward_graph_nodes": "1",
    "reward_graph_edges": "1",
    "reward_graph_components": "1",
    "reward_graph_cycle_rank": "1",
    "reward_graph_giant_component_ratio": "ratio",
    "preference_cyclic_inconsistency_ratio": "ratio",
    "rollout_entropy_nats": "nats",
    "rollout_kl_nats": "nats",
    "rollout_reward_mean": "1",
}


def test_names_of_the_agent_are_frozen() -> None:
    assert sorted(infoplane.agent.__all__) == AGENT
    assert all(hasattr(infoplane.agent, name) for name in AGENT)


def test_names_of_the_wire_are_frozen() -> None:
    assert sorted(infoplane.wire.__all__) == WIRE
    assert all(hasattr(infoplane.wire, name) for name in WIRE)


def test_metrics_and_their_units_are_frozen() -> None:
    assert {metric.name: metric.unit for metric in METRICS} == METRIC_UNITS


def test_metric_names_carry_their_unit() -> None:
    for metric in METRICS:
        if metric.kind == "counter":
            assert metric.name.endswith("_total"), metric.name
        elif metric.unit != "1":
            assert metric.name.endswith(f"_{metric.unit}"), metric.name


def test_labels_stay_few_and_bounded() -> None:
    for metric in METRICS:
        assert set(metric.labels) <= ALLOWED_LABELS, metric.name
        assert list(metric.labels) == sorted(metric.labels), metric.name
