"""The one table of every metric.

Adding a metric is one estimator file, one entry here and its tests. Names are public: they are frozen by a test.
"""

from __future__ import annotations

from typing import Final

from infoplane.collector.metrics import computations as c
from infoplane.collector.metrics.metric import Metric, Source
from infoplane.collector.metrics.needs import (
    ActivationElements,
    AgentCounters,
    LabelledRows,
    NeighbourRows,
    ScalarSums,
    TapNorms,
    TokenColumn,
    UnitCompleteness,
)
from infoplane.collector.metrics.representation_metrics import (
    MORE_MUTUAL_INFORMATION,
    REPRESENTATION_METRICS,
    spectrum_sources,
)
from infoplane.collector.metrics.reward_metrics import REWARD_METRICS
from infoplane.wire.errors import UndefinedMetricError

PREFIX: Final = "infoplane_"

METRICS: Final[tuple[Metric, ...]] = (
    # First what a window is judged against: detectors read results in this order.
    Metric(
        "training_scalar",
        "1",
        "Mean over ranks and steps of a scalar that the run logs.",
        ("stream",),
        (Source("mean", ScalarSums(announced=False), c.scalar_mean),),
    ),
    Metric(
        "training_announced",
        "1",
        "Mean over the window of a value of the announced plan, such as the learning rate.",
        ("stream",),
        (Source("mean", ScalarSums(announced=True), c.scalar_mean),),
    ),
    Metric(
        "window_completeness_ratio",
        "ratio",
        "Share of the expected (sender, step) records of a unit that arrived in time.",
        ("stream",),
        (Source("count", UnitCompleteness(), c.present_share),),
        reading="Below one: a rank is silent, slow or dropping.",
    ),
    Metric(
        "von_neumann_entropy_nats",
        "nats",
        "Entropy of the trace-normalised covariance spectrum of a tap, in nats.",
        ("layer", "tap"),
        spectrum_sources("von_neumann_entropy"),
        papers=(16,),
        reading="Falls when representations collapse into few directions; a fall in all layers at once points at "
        "the optimizer, a fall in late layers only at the data.",
    ),
    Metric(
        "effective_rank",
        "1",
        "Exponential of the von Neumann entropy of a tap: the number of directions in use.",
        ("layer", "tap"),
        spectrum_sources("effective_rank"),
        papers=(16,),
        reading="At most the width of the projection.",
    ),
    Metric(
        "mutual_information_nats",
        "nats",
        "Mutual information between neighbouring taps, or between a tap and the next token's bucket, in nats.",
        ("estimator", "label", "layer", "pair", "tap"),
        (
            Source(
                "heldout_ksg",
                NeighbourRows(),
                c.pair_information,
                cadence=2,
                options={"permutations": 2},
            ),
            Source(
                "heldout_ksg",
                LabelledRows(),
                c.label_information,
                cadence=2,
                options={"permutations": 2},
            ),
            Source(
                "gaussian",
                NeighbourRows(),
                c.gaussian_information,
                options={"permutations": 1},
            ),
            *MORE_MUTUAL_INFORMATION,
        ),
        papers=(1, 21),
        reading="Compare with the null beside it; a saturated value is a lower bound and does not move.",
    ),
    Metric(
        "activation_entropy_nats",
        "nats",
        "Differential entropy of the non-zero activation outputs of a layer after scaling to unit rms, in nats.",
        ("layer", "tap"),
        (Source("activation_entropy", ActivationElements(), c.entropy_of_activation),),
        papers=(18,),
        reading="A Gaussian has 1.42; lower means that outputs cluster. It is free of scale.",
    ),
    Metric(
        "activation_dead_ratio",
        "ratio",
        "Share of activation outputs that are zero.",
        ("layer", "tap"),
        (Source("activation_dead_ratio", ActivationElements(), c.dead_share),),
        papers=(18,),
        reading="For ReLU about one half at the start; near one means dead units.",
    ),
    Metric(
        "usable_information_score_ratio",
        "ratio",
        "Usable information of a tap about the next token's bucket: 2^-H(Y|Y'), a lower bound of accuracy.",
        ("label", "layer", "tap"),
        (
            Source(
                "usable_information_score",
                LabelledRows(),
                c.usable,
                cadence=2,
                phase=1,
                family="usable",
            ),
        ),
        papers=(12,),
        reading="One over the number of classes means none, one means certainty.",
    ),
    Metric(
        "usable_information_bits",
        "bits",
        "H(Y) - H(Y|Y') of a closed-form classifier on a tap for the next token's bucket, in bits.",
        ("label", "layer", "tap"),
        (
            Source(
                "usable_information_bits",
                LabelledRows(),
                c.usable,
                cadence=2,
                phase=1,
                family="usable",
            ),
        ),
        papers=(12,),
    ),
    Metric(
        "usable_accuracy_ratio",
        "ratio",
        "Held-out accuracy of a closed-form classifier on a tap for the next token's bucket.",
        ("label", "layer", "tap"),
        (Source("usable_accuracy", LabelledRows(), c.usable, cadence=2, phase=1, family="usable"),),
        papers=(12,),
    ),
    *REPRESENTATION_METRICS,
    Metric(
        "policy_entropy_nats",
        "nats",
        "Mean entropy of the model's next-token distribution over sampled positions, in nats.",
        (),
        (Source("token_entropy", TokenColumn("entropy"), c.entropy_of_policy),),
        reading="At most the log of the vocabulary. Near zero the model has become deterministic.",
    ),
    Metric(
        "token_surprisal_nats",
        "nats",
        "Mean of -log p of the target token over sampled positions, in nats.",
        (),
        (Source("mean_surprisal", TokenColumn("log_prob"), c.mean_surprisal),),
        reading="The loss as the sampled rows see it.",
    ),
    Metric(
        "representation_rms",
        "1",
        "Root mean square of a tap's rows at full width, per element.",
        ("layer", "tap"),
        (Source("rms", TapNorms(), c.root_mean_square_norm),),
        reading="A jump means that the scale of the residual stream changed.",
    ),
    Metric(
        "agent_overhead_ratio",
        "ratio",
        "The agents' own time on the training thread plus their threads' CPU, over the time of all steps so far.",
        (),
        (
            Source(
                "time",
                AgentCounters(
                    (
                        "hook_seconds",
                        "event_seconds",
                        "publisher_cpu_seconds",
                        "transport_cpu_seconds",
                        "step_seconds",
                    )
                ),
                c.agent_overhead,
            ),
        ),
    ),
    Metric(
        "agent_sent_records_total",
        "1",
        "Records that the agents handed to the broker's client since attach, all ranks.",
        (),
        (Source("sum", AgentCounters(("records_sent",)), c.total("1")),),
        kind="counter",
    ),
    Metric(
        "agent_dropped_records_total",
        "1",
        "Records that the agents dropped since attach, all ranks, by reason.",
        ("reason",),
        (Source("sum", AgentCounters(("records_dropped",), by_reason=True), c.total("1")),),
        kind="counter",
    ),
    Metric(
        "agent_sent_bytes_total",
        "bytes",
        "Bytes that the agents handed to the broker's client since attach, all ranks.",
        (),
        (Source("sum", AgentCounters(("bytes_sent",)), c.total("1")),),
        kind="counter",
    ),
    *REWARD_METRICS,
)

_BY_NAME: Final = {metric.name: metric for metric in METRICS}


def metric_named(name: str) -> Metric:
    """Return a metric by its name, with or without the `infoplane_` prefix.

    Raises:
        UndefinedMetricError: there is none; the message lists near names.
    """
    metric = _BY_NAME.get(name.removeprefix(PREFIX))
    if metric is None:
        raise UndefinedMetricError(f"metric {name!r}: expected one of {', '.join(_BY_NAME)}")
    return metric
