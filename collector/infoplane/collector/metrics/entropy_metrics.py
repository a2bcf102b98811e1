"""Metrics of rows without a reference: soft and binned entropies, compressed neighbours, second opinions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infoplane.collector.metrics.computations import by_shape, stack
from infoplane.collector.metrics.metric import Context
from infoplane.collector.metrics.needs import Labelled, Pair
from infoplane.estimators import (
    Estimate,
    binned_entropy,
    binned_mi,
    coarsen_labels,
    compressed_entropy,
    compressed_knn,
    compressed_knn_labels,
    soft_entropy,
    soft_mi,
    supervised_mi,
)

Rows = NDArray[np.float32]
TRAINED_COLUMNS = 32  # a side that the trained estimator has seen


def soft_spread(inputs: Sequence[Rows], context: Context) -> list[Estimate]:
    """Soft entropy over fixed reference points."""
    return _of_rows(inputs, context, soft_entropy)


def soft_about_labels(inputs: Sequence[Labelled], context: Context) -> list[Estimate]:
    """Soft information about the label, less its null."""
    return _of_labelled(inputs, context, soft_mi)


def binned_spread(inputs: Sequence[Rows], context: Context) -> list[Estimate]:
    """Mean binned entropy of the columns."""
    return _of_rows(inputs, context, binned_entropy)


def binned_information(inputs: Sequence[Labelled], context: Context) -> list[Estimate]:
    """Mean information of the columns' bins about the label."""
    return _of_labelled(_coarse(inputs), context, binned_mi)


def compressed_spread(inputs: Sequence[Rows], context: Context) -> list[Estimate]:
    """Differential entropy of the leading components."""
    return _of_rows(inputs, context, compressed_entropy, seeded=True)


def compressed_pairs(inputs: Sequence[Pair], context: Context) -> list[Estimate]:
    """Neighbour information of the leading components of pairs."""
    return _of_pairs(inputs, context, compressed_knn)


def compressed_labels(inputs: Sequence[Labelled], context: Context) -> list[Estimate]:
    """Neighbour information of the leading components about the label."""
    return _of_labelled(_coarse(inputs), context, compressed_knn_labels)


def second_opinion(inputs: Sequence[Pair], context: Context) -> list[Estimate]:
    """What a trained estimator says about the columns that it can take: projected ones, so a lower bound."""
    cut = [Pair(one.x[:, :TRAINED_COLUMNS], one.y[:, :TRAINED_COLUMNS]) for one in inputs]
    return _of_pairs(cut, context, supervised_mi)


def _coarse(inputs: Sequence[Labelled]) -> list[Labelled]:
    """Return labels coarsened to what n rows can carry."""
    return [Labelled(one.x, coarsen_labels(one.labels)[0]) for one in inputs]


def _of_rows(
    inputs: Sequence[Rows],
    context: Context,
    estimator: Callable[..., list[Estimate]],
    *,
    seeded: bool = False,
) -> list[Estimate]:
    def run(some: list[Rows], seeds: list[int]) -> list[Estimate]:
        more: dict[str, Any] = {"seeds": seeds} if seeded else {}
        return estimator(stack(some, context), **more, **context.options)

    return by_shape(inputs, context, lambda x: x.shape, run)


def _of_labelled(
    inputs: Sequence[Labelled], context: Context, estimator: Callable[..., list[Estimate]]
) -> list[Estimate]:
    def run(some: list[Labelled], seeds: list[int]) -> list[Estimate]:
        labels = torch.from_numpy(np.stack([one.labels for one in some])).to(context.device)
        x = stack([one.x for one in some], context)
        return estimator(x, labels, seeds=seeds, **context.options)

    return by_shape(inputs, context, lambda one: one.x.shape, run)


def _of_pairs(
    inputs: Sequence[Pair], context: Context, estimator: Callable[..., list[Estimate]]
) -> list[Estimate]:
    def run(some: list[Pair], seeds: list[int]) -> list[Estimate]:
        x, y = (stack([getattr(one, side) for one in some], context) for side in ("x", "y"))
        return estimator(x, y, seeds=seeds, **context.options)

    return by_shape(inputs, context, lambda one: (one.x.shape, one.y.shape), run)
