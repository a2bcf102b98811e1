"""Metrics of tokens in order, of checkpoints in order, and of scalars."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from infoplane.collector.metrics.anchor_needs import Predictions
from infoplane.collector.metrics.computations import by_shape, stack
from infoplane.collector.metrics.metric import Context
from infoplane.collector.metrics.needs import TokenValues
from infoplane.collector.metrics.representation_needs import FunctionInputs, ScalarPair
from infoplane.estimators import (
    Estimate,
    PrequentialCode,
    activation_gain,
    checkpoint_mixture_gain,
    generalization_gap,
    policy_fisher_step,
    prequential_code_length,
    prequential_regret,
    sequence_mi,
)

CHECKPOINTS = 4  # of a mixture
HORIZON = 8  # windows of the trailing mean that regret is measured against


def along_the_sequence(inputs: Sequence[NDArray[np.float32]], context: Context) -> list[Estimate]:
    """Information between neighbouring tokens of a run."""
    return by_shape(
        inputs,
        context,
        lambda runs: runs.shape,
        lambda some, seeds: sequence_mi(stack(some, context), seeds=seeds, **context.options),
    )


def code_length(inputs: Sequence[TokenValues], context: Context) -> list[dict[str, Estimate]]:
    """Prequential code length of the sampled tokens so far, and its regret."""
    found = []
    for one, memory in zip(inputs, context.memory, strict=True):
        code = PrequentialCode.from_arrays(memory) if memory else PrequentialCode(horizon=HORIZON)
        losses = -one.values[np.isfinite(one.values)]
        if losses.size:
            code = code.advance(float(losses.mean()), int(losses.size))
            memory.update(code.to_arrays())
        found.append(
            {
                "prequential_code_length_nats": prequential_code_length(code),
                "prequential_regret_nats": prequential_regret(code),
            }
        )
    return found


def mixture_of_checkpoints(
    inputs: Sequence[NDArray[np.float64]], context: Context
) -> list[Estimate]:
    """What the mixture of the last checkpoints knows more about the anchors than they do on average."""
    found = []
    for rows, memory in zip(inputs, context.memory, strict=True):
        kept = memory.get("log_probs", np.zeros((0, rows.shape[1])))
        if kept.shape[1] != rows.shape[1]:  # other anchors
            kept = kept[:0].reshape(0, rows.shape[1])
        both = np.concatenate([kept, rows])
        memory["log_probs"] = both[-CHECKPOINTS:]
        kept_rows = both if len(rows) > 1 else both[-CHECKPOINTS:]
        found.append(checkpoint_mixture_gain(torch.from_numpy(kept_rows)))
    return found


def step_of_policy(inputs: Sequence[Predictions], context: Context) -> list[Estimate]:
    """How far the predictions at the anchors moved since the last pass."""
    found = []
    for now, memory in zip(inputs, context.memory, strict=True):
        before = memory if memory and memory["ids"].shape == now.ids.shape else None
        if before is None:
            found.append(
                Estimate.missing(
                    "history", unit="1", n=len(now.ids), estimator="policy_fisher_step", version=1
                )
            )
        else:
            aligned = _aligned(now, before["ids"], before["log_probs"])
            found += policy_fisher_step(*(torch.from_numpy(side)[None] for side in aligned))
        memory.update({"ids": now.ids, "log_probs": now.log_probs})
    return found


def _aligned(
    now: Predictions, ids: NDArray[np.int64], log_probs: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return log-probabilities of the tokens that both lists have, (n, k) each, -inf in the other places.

    What stands in one list only falls into the tail, on both sides alike: coarser, and so a lower bound.
    """
    same = (now.ids[:, :, None] == ids[:, None, :]) & (now.ids[:, :, None] >= 0)
    is_shared = same.any(2)
    where = same.argmax(2)
    before = np.where(is_shared, np.take_along_axis(log_probs, where, axis=1), -np.inf)
    return np.where(is_shared, now.log_probs, -np.inf), before


def gain_of_activation(inputs: Sequence[FunctionInputs], context: Context) -> list[Estimate]:
    """Entropy that the activation function adds or takes away."""
    found = []
    for one in inputs:
        if one.function == "unknown":
            missing = Estimate.missing(
                "function", unit="nats", n=0, estimator="activation_gain", version=1
            )
            found.append(missing)
        else:
            found += activation_gain([one.inputs], one.function)
    return found


def gap_of_losses(inputs: Sequence[ScalarPair], context: Context) -> list[Estimate]:
    """Held-out loss less training loss."""
    return [generalization_gap(one.first, one.second) for one in inputs]
