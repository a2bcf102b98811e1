"""Metrics of moments and rows: description length, class manifolds, speed, what taps say about each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from infoplane.collector.metrics.computations import by_shape, stack
from infoplane.collector.metrics.joint_needs import JointTaps, OneOfJoint, TwoBlocks
from infoplane.collector.metrics.metric import Context
from infoplane.collector.metrics.needs import Labelled
from infoplane.estimators import (
    Estimate,
    FisherPath,
    TapPredictability,
    gaussian_bottleneck,
    join_integrity,
    manifold_capacity,
    tap_predictability,
)
from infoplane.estimators.state import Moments

HISTORY = 20  # windows that join integrity looks back
BROKEN = 0.3  # integrity below which rows were joined wrongly


def class_manifolds(inputs: Sequence[Labelled], context: Context) -> list[dict[str, Estimate]]:
    """Capacity and spread of the manifolds of classes."""

    def run(some: list[Labelled], seeds: list[int]) -> list[dict[str, Estimate]]:
        found = manifold_capacity(
            stack([one.x for one in some], context),
            torch.from_numpy(np.stack([one.labels for one in some])).to(context.device),
            seeds=seeds,
            **context.options,
        )
        return [
            {"manifold_capacity_ratio": one.capacity, "manifold_spread": one.spread}
            for one in found
        ]

    return by_shape(inputs, context, lambda one: one.x.shape, run)


def movement(inputs: Sequence[Moments], context: Context) -> list[dict[str, Estimate]]:
    """Fisher-Rao step since the last window, and the path that the steps make up."""
    going = [place for place, memory in enumerate(context.memory) if memory]
    further = FisherPath.advance_all(
        [FisherPath.from_arrays(context.memory[place]) for place in going],
        [inputs[place] for place in going],
    )
    after = dict(zip(going, further, strict=True))
    paths = [after.get(place) or FisherPath.start(one) for place, one in enumerate(inputs)]
    for path, memory in zip(paths, context.memory, strict=True):
        memory.update(path.to_arrays())
    return [
        {
            "representation_fisher_step": path.step,
            "fisher_path_length": path.length,
            "fisher_path_efficiency_ratio": efficiency,
        }
        for path, efficiency in zip(paths, FisherPath.efficiencies(paths), strict=True)
    ]


def one_from_the_others(
    inputs: Sequence[OneOfJoint], context: Context
) -> list[dict[str, Estimate]]:
    """What the other taps say about each, and that against the windows before."""
    known: dict[int, TapPredictability] = {}
    found = []
    for one, memory in zip(inputs, context.memory, strict=True):
        joint = one.joint
        if id(joint) not in known:
            known[id(joint)] = tap_predictability(joint.moments, joint.widths)
        value = known[id(joint)].per_tap[one.place]
        history = memory.get("history", np.zeros(0))
        integrity = join_integrity(value.value, history.tolist())
        # A join that stays wrong must not become what is usual.
        is_whole = not integrity.defined or integrity.value >= BROKEN
        if value.defined and is_whole:
            memory["history"] = np.append(history, value.value)[-HISTORY:]
        found.append({"tap_predictability_nats": value, "tap_join_integrity_ratio": integrity})
    return found


def total_correlation(inputs: Sequence[JointTaps], context: Context) -> list[Estimate]:
    """What all taps share."""
    return [tap_predictability(one.moments, one.widths).total_correlation for one in inputs]


def bottleneck(inputs: Sequence[TwoBlocks], context: Context) -> list[dict[str, Estimate]]:
    """What a tap has to carry to predict the last."""
    found = []
    for one in inputs:
        curve = gaussian_bottleneck(one.moments, one.width)
        found.append(
            {
                "predictive_information_nats": curve.predictive_information,
                "critical_beta": curve.critical_beta,
                "information_rank": curve.information_rank,
            }
        )
    return found
