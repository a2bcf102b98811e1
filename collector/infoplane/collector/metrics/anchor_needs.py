"""What metrics of anchors need: predictions of the same positions, pass after pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from infoplane.collector.estimate.view import WindowView
from infoplane.collector.metrics.metric import Arrays, Item
from infoplane.collector.metrics.needs import array_named
from infoplane.wire import ConfigurationError

SITE = "anchor/logits"


@dataclass(frozen=True, slots=True)
class Predictions:
    """The likeliest tokens at every place of the anchor batch.

    Attributes:
        log_probs: (n, k), nats; -inf where a vocabulary has fewer than k tokens.
        ids: (n, k), -1 there.
        next_log_prob: (n,) of the token that follows; empty if that is not known.
    """

    log_probs: NDArray[np.float64]
    ids: NDArray[np.int64]
    next_log_prob: NDArray[np.float64]


class AnchorPredictions:
    """What the model predicts at its anchors: one item, in windows with an anchor pass."""

    name: ClassVar[str] = "predictions at the anchors"
    arrays: ClassVar[Mapping[str, str]] = {}

    def gather(self, view: WindowView) -> list[Item[Predictions]]:
        """One item, where anchors are set and the pass fell into this window."""
        tap = view.taps.get(SITE)
        if tap is None or not {"top_log_probs", "top_ids"} <= tap.summaries.keys():
            return []
        found = tap.summaries
        after = found.get("next_log_prob", np.zeros(0))
        predictions = Predictions(
            found["top_log_probs"].astype(np.float64),
            found["top_ids"].astype(np.int64),
            after.astype(np.float64),
        )
        return [Item({}, predictions, tap.completeness)]

    def load(self, arrays: Arrays) -> Predictions:
        """There is no offline door: one pass alone says nothing."""
        raise ConfigurationError("metric", self.name, "a metric of arrays")


class CheckpointLogProbs:
    """Log-probabilities of the same tokens under several checkpoints."""

    name: ClassVar[str] = "log-probabilities of the anchors' tokens under recent checkpoints"
    arrays: ClassVar[Mapping[str, str]] = {
        "log_probs": "nats, one row a checkpoint (k, n)",
    }

    def gather(self, view: WindowView) -> list[Item[NDArray[np.float64]]]:
        """The newest row alone; the computation remembers the others."""
        items = AnchorPredictions().gather(view)
        return [
            Item(item.labels, item.value.next_log_prob[None], item.completeness)
            for item in items
            if item.value is not None and item.value.next_log_prob.size
        ]

    def load(self, arrays: Arrays) -> NDArray[np.float64]:
        """The rows."""
        found = array_named(arrays, "log_probs")
        if found.ndim != 2:
            raise ConfigurationError("log_probs", found.shape, "numbers of shape (k, n)")
        return found.astype(np.float64)
