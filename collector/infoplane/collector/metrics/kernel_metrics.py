"""Metrics with kernels on rows: diffusion spectra, Cauchy-Schwarz information, kernel and noise bounds.

Each keeps the number of rows and the bandwidth that its first window fixed; see `references`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infoplane.collector.metrics.metric import Context
from infoplane.collector.metrics.needs import Labelled, Pair
from infoplane.collector.metrics.references import Prepared, prepare
from infoplane.estimators import (
    Estimate,
    choose_noise,
    coarsen_labels,
    conditional_noise_mi,
    cs_qmi,
    diffusion_entropy,
    diffusion_mi,
    kde_bounds,
    median_distance,
)
from infoplane.estimators.estimate import Unit

Rows = NDArray[np.float32]
MOST = "rows"  # option: rows a series takes at most


def spectral_entropy(inputs: Sequence[Rows], context: Context) -> list[Estimate]:
    """Diffusion spectral entropy of every tap."""
    return _alone(
        [(x,) for x in inputs],
        context,
        lambda blocks: median_distance(blocks[0]),
        lambda group, options: diffusion_entropy(
            group.blocks[0], bandwidths=_first(group), seeds=group.seeds, **options
        ),
        ("bits", "diffusion_entropy"),
    )


def spectral_information(inputs: Sequence[Labelled], context: Context) -> list[Estimate]:
    """Diffusion spectral information about the label."""
    return _alone(
        [(one.x,) for one in inputs],
        context,
        lambda blocks: median_distance(blocks[0]),
        lambda group, options: diffusion_mi(
            group.blocks[0],
            _labels(inputs, group),
            bandwidths=_first(group),
            seeds=group.seeds,
            **options,
        ),
        ("bits", "diffusion_mi"),
    )


def cauchy_schwarz(inputs: Sequence[Pair], context: Context) -> list[dict[str, Estimate]]:
    """Cauchy-Schwarz quadratic information of neighbouring taps: in bits, and normalised."""
    names: Mapping[str, tuple[Unit, str]] = {
        "cs_qmi_bits": ("bits", "cs_qmi"),
        "cs_qmi_ratio": ("ratio", "cs_qmi_ratio"),
    }

    def run(group: Prepared, options: Mapping[str, Any]) -> list[dict[str, Estimate]]:
        bandwidths = [(float(r[0]), float(r[-1])) for r in group.references]
        found = cs_qmi(*group.blocks, bandwidths=bandwidths, seeds=group.seeds, **options)
        return [{"cs_qmi_bits": one.bits, "cs_qmi_ratio": one.ratio} for one in found]

    return _family(
        [(one.x, one.y) for one in inputs],
        context,
        lambda blocks: torch.stack([median_distance(block) for block in blocks], 1),
        run,
        names,
    )


def kernel_bounds(inputs: Sequence[Rows], context: Context) -> list[dict[str, Estimate]]:
    """Bounds of the information that a noisy copy of a tap has about it."""
    names: Mapping[str, tuple[Unit, str]] = {
        "kde_mi_upper_nats": ("nats", "kde_mi_upper"),
        "kde_mi_lower_nats": ("nats", "kde_mi_lower"),
    }

    def run(group: Prepared, options: Mapping[str, Any]) -> list[dict[str, Estimate]]:
        found = kde_bounds(group.blocks[0], variances=_first(group), seeds=group.seeds, **options)
        return [{"kde_mi_upper_nats": one.upper, "kde_mi_lower_nats": one.lower} for one in found]

    return _family(
        [(x,) for x in inputs], context, lambda blocks: choose_noise(blocks[0]), run, names
    )


def noise_information(inputs: Sequence[Labelled], context: Context) -> list[Estimate]:
    """Information of a noisy copy about the representation, within classes of the label."""
    return _alone(
        [(one.x,) for one in inputs],
        context,
        lambda blocks: choose_noise(blocks[0]),
        lambda group, options: conditional_noise_mi(
            group.blocks[0],
            _labels(inputs, group),
            variances=_first(group),
            seeds=group.seeds,
            **options,
        ),
        ("nats", "conditional_noise_mi"),
    )


def _first(group: Prepared) -> list[float]:
    return [float(reference[0]) for reference in group.references]


def _labels(inputs: Sequence[Labelled], group: Prepared) -> Tensor:
    """Return the labels of a group, coarsened to what n rows can carry."""
    cut = [coarsen_labels(inputs[place].labels[: group.n])[0] for place in group.places]
    return torch.from_numpy(np.stack(cut)).to(group.blocks[0].device)


def _alone(
    inputs: Sequence[tuple[Rows, ...]],
    context: Context,
    reference: Callable[[tuple[Tensor, ...]], Tensor],
    run: Callable[[Prepared, Mapping[str, Any]], Sequence[Estimate]],
    what: tuple[Unit, str],
) -> list[Estimate]:
    """Run an estimator of one number."""

    def named(group: Prepared, options: Mapping[str, Any]) -> list[dict[str, Estimate]]:
        return [{"": one} for one in run(group, options)]

    return [one[""] for one in _family(inputs, context, reference, named, {"": what})]


def _family(
    inputs: Sequence[tuple[Rows, ...]],
    context: Context,
    reference: Callable[[tuple[Tensor, ...]], Tensor],
    run: Callable[[Prepared, Mapping[str, Any]], Sequence[dict[str, Estimate]]],
    names: Mapping[str, tuple[Unit, str]],
) -> list[dict[str, Estimate]]:
    """Run an estimator on inputs of equal shape; inputs with fewer rows than their series has are undefined."""
    options = {name: value for name, value in context.options.items() if name != MOST}
    answers = [
        {
            name: Estimate.missing("n", unit=unit, n=len(one[0]), estimator=estimator, version=1)
            for name, (unit, estimator) in names.items()
        }
        for one in inputs
    ]
    for group in prepare(inputs, context, reference, int(context.options[MOST])):
        for place, found in zip(group.places, run(group, options), strict=True):
            answers[place] = found
    return answers
