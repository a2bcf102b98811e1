"""From numbers of soft assignments to `Estimate` records, from rows and from merged counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from infoplane.estimators.estimate import Estimate
from infoplane.estimators.mutual_information.labels import entropy_of_counts
from infoplane.estimators.mutual_information.verdicts import SATURATION, null_of
from infoplane.estimators.state.soft_counts import SoftCounts
from infoplane.estimators.state.soft_reference import FloatArray, SoftReference

VERSION = 1
UNIFORM = 0.99
"""Entropy from which directions cannot be told from uniform ones."""


def soft_entropy_of_counts(counts: SoftCounts) -> Estimate:
    """Return the soft entropy of merged counts.

    As `soft_entropy` of all rows, without a band: the counts do not hold the rows' spread.
    float64, so it agrees to about 1e-6. Undefined: ``"n"`` below 2 rows.
    """
    if counts.n < 2:
        return missing("soft_entropy", "n", counts.n, counts.reference)
    entropy = _entropy(counts.total() / counts.n)
    return replace(entropy_estimate(entropy, 0.0, counts.n, counts.reference), band=None)


def soft_mi_of_counts(counts: SoftCounts, nulls: Sequence[SoftCounts] = ()) -> Estimate:
    """Return the soft mutual information of merged counts.

    As `soft_mi`, without a band. Rows of the common bin count as one label.

    Null: counts of the same rows with labels shuffled, which whoever holds the rows counts and
    merges beside ``counts``; shuffling inside each shard is enough when shards are alike. Their
    mean is subtracted; without them the value is the raw one.

    Undefined: ``"n"`` below 2 rows, ``"classes"`` for one label.

    Args:
        counts: Counts with the labels.
        nulls: Counts with shuffled labels, one per shuffle.
    """
    sizes = _sizes(counts)
    reason = "n" if counts.n < 2 else "classes" if (sizes > 0).sum() < 2 else ""
    if reason:
        return missing("soft_mi", reason, counts.n, counts.reference)
    own = _entropy(counts.total() / counts.n) - counts.row_entropy / counts.n
    found = information_estimate(
        _information(counts),
        [_information(one) for one in nulls if one.n > 0],
        0.0,
        min(entropy_of_counts(sizes), own),
        counts.n,
        counts.reference,
        counts.max_labels,
    )
    return replace(found, band=None)


def entropy_estimate(entropy: float, error: float, n: int, reference: SoftReference) -> Estimate:
    """Return the record of an entropy in nats."""
    unit = math.log(reference.points)
    value = min(max(entropy / unit, 0.0), 1.0)
    half = 1.96 * error / unit
    return Estimate(
        value=value,
        unit="ratio",
        n=n,
        estimator="soft_entropy",
        version=VERSION,
        ceiling=1.0,
        saturated=value > UNIFORM,
        band=(value - half, value + half),
        parameters=_parameters(reference),
    )


def information_estimate(
    raw: float,
    null: Sequence[float],
    error: float,
    ceiling: float,
    n: int,
    reference: SoftReference,
    max_labels: int,
) -> Estimate:
    """Return the record of a raw information, its null draws and its standard error in nats."""
    unit = math.log(reference.points)
    mean, spread = null_of(null)
    draws = max(len(null), 1)
    value = (raw - (mean or 0.0)) / unit
    limit = max(ceiling / unit, 0.0)
    half = 1.96 * math.hypot(error, (spread or 0.0) / math.sqrt(draws)) / unit
    parameters: dict[str, float | int | str] = {
        **_parameters(reference),
        "max_labels": max_labels,
        "permutations": len(null),
        "raw": raw / unit,
    }
    if mean is not None:
        parameters["raw_null"] = mean / unit
    return Estimate(
        value=value,
        unit="ratio",
        n=n,
        estimator="soft_mi",
        version=VERSION,
        null_mean=None if mean is None else 0.0,
        null_sd=None if spread is None else spread * math.sqrt(1.0 + 1.0 / draws) / unit,
        ceiling=limit,
        saturated=value > SATURATION * limit,
        band=(value - half, value + half),
        parameters=parameters,
    )


def missing(estimator: str, reason: str, n: int, reference: SoftReference) -> Estimate:
    """Return an estimate without a value."""
    return Estimate.missing(
        reason,
        unit="ratio",
        n=n,
        estimator=estimator,
        version=VERSION,
        parameters=_parameters(reference),
    )


def _parameters(reference: SoftReference) -> dict[str, float | int | str]:
    return {
        "d": reference.d,
        "points": reference.points,
        "reference_seed": reference.seed,
        "calibration": reference.calibration,
    }


def _sizes(counts: SoftCounts) -> FloatArray:
    return np.append(counts.rows, counts.other_rows).astype(np.float64)


def _information(counts: SoftCounts) -> float:
    sizes = _sizes(counts)
    held = np.vstack([counts.sums, counts.other])[sizes > 0]
    sizes = sizes[sizes > 0]
    means = held / sizes[:, None]
    log = np.log(np.maximum(means, 1e-300))
    conditional = -float(((means * log).sum(-1) * sizes).sum()) / counts.n
    return _entropy(counts.total() / counts.n) - conditional


def _entropy(share: FloatArray) -> float:
    return -float((share * np.log(np.maximum(share, 1e-300))).sum())
