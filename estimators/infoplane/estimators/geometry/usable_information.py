"""Usable information: how well a linear read-out of a representation predicts a label.

Score 2^-H(Y|Yhat) of "NetInfoF: Measuring and Exploiting Network Usable Information" (Lee et
al., ICLR 2024): the inverse of the conditional perplexity, at most the accuracy of the best
prediction from Yhat. Here Yhat is the class that a ridge classifier predicts on the half of the
rows it was not fitted on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from infoplane.estimators.estimate import Estimate, Unit
from infoplane.estimators.mutual_information.canonical import whitening_root
from infoplane.estimators.mutual_information.labels import (
    ROWS_PER_CELL,
    coarsen_labels,
    dense_labels,
    entropy_of_counts,
)
from infoplane.estimators.mutual_information.pairings import row_orders, take_rows
from infoplane.estimators.mutual_information.verdicts import constant_items, nonfinite_items

VERSION = 1
RIDGE = 1e-2
SCORE = "usable_information_score"
BITS = "usable_information_bits"
ACCURACY = "usable_accuracy"
UNITS: dict[str, Unit] = {SCORE: "ratio", BITS: "bits", ACCURACY: "ratio"}


@dataclass(frozen=True, slots=True)
class UsableInformation:
    """The three readings of one table of predicted and true classes.

    Attributes:
        score: exp(-H(Y|Yhat)), a ratio; 1 / classes .. 1.
        bits: H(Y) - H(Y|Yhat) in bits.
        accuracy: Share of right predictions.
    """

    score: Estimate
    bits: Estimate
    accuracy: Estimate


def usable_information(
    x: Tensor, labels: Tensor, *, seeds: Sequence[int]
) -> list[UsableInformation]:
    """Return score, bits and accuracy for every item.

    A ridge classifier (regression on one-hot labels, ridge 0.01 of the mean variance) is fitted
    on one half and predicts the other, in both directions; both halves' predictions fill one
    C x C table. Entropies are Miller-Madow corrected. The table needs n >= 5 C^2 rows: with
    fewer, labels keep only the low bits that fit (`coarsen_labels`), and ``parameters`` holds
    the number of bits, under which the value is a metric of its own.

    Null (analytic): exp(-H(Y)) for the score, 0 bits, the largest class's share for the
    accuracy. Ceilings: 1, H(Y) and 1; they are reached by a perfect read-out, so
    ``saturated`` stays False. Bands: 1.96 standard errors for independent rows.

    Undefined: ``"n"`` below 20 rows, ``"nan"``, ``"constant"``, ``"classes"`` for one class.

    Args:
        x: Shape ``(t, n, d)``.
        labels: Shape ``(t, n)``, non-negative integers.
        seeds: One per item, for the halves.

    Returns:
        ``t`` triples. Cost O(t (n d^2 + d^3)).

    Raises:
        ValueError: If shapes or the number of seeds do not fit.
    """
    if x.ndim != 3 or labels.shape != x.shape[:2] or len(seeds) != x.shape[0]:
        raise ValueError(
            f"x, labels, seeds: expected (t, n, d), (t, n), t; "
            f"got {tuple(x.shape)}, {tuple(labels.shape)}, {len(seeds)}"
        )
    t, n, d = x.shape
    if n < 20:
        return [_missing("n", n, 0, d) for _ in range(t)]
    kept = [coarsen_labels(item) for item in labels.cpu().numpy()]
    coarse = torch.from_numpy(np.stack([k[0] for k in kept])) if t else labels
    dense, classes = dense_labels(coarse)
    flags = zip(nonfinite_items(x), constant_items(x), classes, strict=True)
    reasons = [
        "nan" if nan else "constant" if flat else "classes" if count < 2 else ""
        for nan, flat, count in flags
    ]
    guesses = _predictions(x, dense.to(x.device), max(classes), seeds).cpu()
    return [
        _missing(reasons[i], n, kept[i][1], d)
        if reasons[i]
        else _readings(
            table_of_predictions(guesses[i].numpy(), dense[i].numpy(), classes[i]), kept[i][1], d
        )
        for i in range(t)
    ]


def usable_information_of_table(
    table: npt.NDArray[np.generic], *, d: int, label_bits: int
) -> UsableInformation:
    """Return score, bits and accuracy of counts of predicted (down) and true (across) classes.

    Tables of shards add, and so do the moments that a read-out is fitted on (see
    `linear_read_out`), so that no shard needs another's rows. Null, ceilings and bands are those of
    `usable_information`. A class that no row has takes no part.

    Undefined: ``"n"`` below 20 rows or 5 C^2 rows for C classes (coarsen the labels first),
    ``"nan"`` for a count that is negative or not finite, ``"classes"``.

    Args:
        table: Shape ``(c, c)``.
        d: Columns that the predictions rest on; only recorded.
        label_bits: Low bits of the label that were kept; only recorded.

    Raises:
        ValueError: If ``table`` is not square.
    """
    counts = np.asarray(table, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ValueError(f"table: expected shape (c, c), got {counts.shape}")
    n = float(counts.sum())
    if not math.isfinite(n) or bool((counts < 0).any()):
        return _missing("nan", 0, label_bits, d)
    classes = int((counts.sum(0) > 0).sum())
    if n < max(20, ROWS_PER_CELL * classes**2):
        return _missing("n", int(n), label_bits, d)
    if classes < 2:
        return _missing("classes", int(n), label_bits, d)
    return _readings(counts, label_bits, d)


def table_of_predictions(
    guesses: npt.NDArray[np.int64], labels: npt.NDArray[np.int64], classes: int
) -> npt.NDArray[np.float64]:
    """Return counts of predicted (down) and true (across) classes, ``(classes, classes)``."""
    counts = np.bincount(guesses * classes + labels, minlength=classes**2)
    return counts[: classes**2].reshape(classes, classes).astype(np.float64)


def usable_information_score(x: Tensor, labels: Tensor, *, seeds: Sequence[int]) -> list[Estimate]:
    """Return the score of `usable_information`: a ratio, 1 for a perfect read-out."""
    return [item.score for item in usable_information(x, labels, seeds=seeds)]


def usable_information_bits(x: Tensor, labels: Tensor, *, seeds: Sequence[int]) -> list[Estimate]:
    """Return the information of `usable_information`: H(Y) - H(Y|Yhat) in bits."""
    return [item.bits for item in usable_information(x, labels, seeds=seeds)]


def usable_accuracy(x: Tensor, labels: Tensor, *, seeds: Sequence[int]) -> list[Estimate]:
    """Return the accuracy of `usable_information`: the share of right predictions."""
    return [item.accuracy for item in usable_information(x, labels, seeds=seeds)]


def _predictions(x: Tensor, labels: Tensor, classes: int, seeds: Sequence[int]) -> Tensor:
    """Return the class predicted for every row by the classifier of the other half, (t, n)."""
    n = x.shape[1]
    order = row_orders(seeds, n, permutations=0, device=x.device)
    # Gathering is bound by memory, so it comes before rows and labels grow.
    rows = take_rows(torch.where(x.isfinite(), x, 0.0), order)[:, 0].to(torch.float64)
    targets = torch.nn.functional.one_hot(labels.gather(1, order[:, 0]), classes).double()
    halves = (slice(0, n // 2), slice(n // 2, n))
    guesses = [
        _ridge_scores(rows[:, fit], targets[:, fit], rows[:, held]).argmax(-1)
        for fit, held in (halves, halves[::-1])
    ]
    # The first guesses are for the second half.
    ordered = torch.cat([guesses[1], guesses[0]], 1)
    return torch.empty_like(ordered).scatter_(1, order[:, 0], ordered)


def _ridge_scores(x: Tensor, targets: Tensor, held: Tensor) -> Tensor:
    """Return ridge regression of ``targets (t, n, c)`` on ``x``, applied to ``held``."""
    mean, share = x.mean(1, keepdim=True), targets.mean(1, keepdim=True)
    centred = x - mean
    root = whitening_root(centred.mT @ centred / x.shape[1], ridge=RIDGE)
    weights = torch.cholesky_solve(centred.mT @ (targets - share) / x.shape[1], root)
    return (held - mean) @ weights + share


def _readings(table: npt.NDArray[np.float64], bits: int, d: int) -> UsableInformation:
    accuracy = float(np.trace(table) / table.sum())
    table = table[:, table.sum(0) > 0]
    n, classes = int(table.sum()), int(table.shape[1])
    predicted, true = table.sum(1, keepdims=True), table.sum(0)
    conditional = conditional_entropy(table)
    entropy = entropy_of_counts(true)
    # Pointwise ln p(y|yhat) and ln p(y|yhat) / p(y), for standard errors.
    log = np.log(np.where(table > 0, table / np.maximum(predicted, 1.0), 1.0))
    gain = np.where(table > 0, log - np.log(true / n), 0.0)
    score, error = math.exp(-conditional), _error(log, table)
    information = (entropy - conditional) / math.log(2)
    bits_error = _error(gain, table) / math.log(2)
    accuracy_error = math.sqrt(accuracy * (1.0 - accuracy) / n)

    def reading(
        name: str, value: float, null: float, ceiling: float, band: tuple[float, float]
    ) -> Estimate:
        return Estimate(
            value=value,
            unit=UNITS[name],
            n=n,
            estimator=name,
            version=VERSION,
            null_mean=null,
            ceiling=ceiling,
            band=band,
            parameters={"d": d, "label_bits": bits, "classes": classes, "ridge": RIDGE},
        )

    return UsableInformation(
        reading(
            SCORE,
            score,
            math.exp(-entropy),
            1.0,
            (score * math.exp(-1.96 * error), score * math.exp(1.96 * error)),
        ),
        reading(
            BITS,
            information,
            0.0,
            entropy / math.log(2),
            (information - 1.96 * bits_error, information + 1.96 * bits_error),
        ),
        reading(
            ACCURACY,
            accuracy,
            float(true.max()) / n,
            1.0,
            (accuracy - 1.96 * accuracy_error, accuracy + 1.96 * accuracy_error),
        ),
    )


def conditional_entropy(table: npt.NDArray[np.float64]) -> float:
    """Return H(Y|X) in nats of a table of counts, x down and y across; Miller-Madow.

    Plug-in value plus (occupied cells - occupied rows) / 2n, at most ln of the number of
    columns; 0 for an empty table.
    """
    n = float(table.sum())
    if n <= 0:
        return 0.0
    rows = table.sum(1)
    cells = table[table > 0]
    held = rows[rows > 0]
    plug_in = float((held * np.log(held)).sum() - (cells * np.log(cells)).sum()) / n
    corrected = plug_in + float(cells.size - held.size) / (2.0 * n)
    return max(0.0, min(corrected, math.log(int(table.shape[1]))))


def _error(values: npt.NDArray[np.float64], table: npt.NDArray[np.float64]) -> float:
    """Return the standard error of the table's mean of ``values``."""
    n = float(table.sum())
    mean = float((values * table).sum()) / n
    variance = float((np.square(values - mean) * table).sum()) / n
    return math.sqrt(variance / n)


def _missing(reason: str, n: int, bits: int, d: int) -> UsableInformation:
    score, information, accuracy = (
        Estimate.missing(
            reason,
            unit=UNITS[name],
            n=n,
            estimator=name,
            version=VERSION,
            parameters={"d": d, "label_bits": bits, "ridge": RIDGE},
        )
        for name in (SCORE, BITS, ACCURACY)
    )
    return UsableInformation(score, information, accuracy)
