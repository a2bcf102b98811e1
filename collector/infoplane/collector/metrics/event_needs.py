"""The kinds of input that metrics need from streams of reward events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from infoplane.collector.estimate.view import WindowView
from infoplane.collector.metrics.metric import Arrays, Item
from infoplane.collector.metrics.rewards import (
    Comparisons,
    Rollouts,
    comparisons_of,
    rollouts_of,
)
from infoplane.wire import ConfigurationError

PREFERENCES: Final = "preferences"
ROLLOUTS: Final = "rollouts"


@dataclass(frozen=True, slots=True)
class PreferenceEvents:
    """Comparisons of one stream: of the window alone, or of all windows that are kept up to it."""

    whole_history: bool

    arrays: ClassVar[Mapping[str, str]] = {
        "chosen": "response ids (m,), integers",
        "rejected": "response ids (m,), integers",
    }

    @property
    def name(self) -> str:
        """What `infoplane metrics show` prints."""
        return "kept comparisons" if self.whole_history else "comparisons of the window"

    def gather(self, view: WindowView) -> list[Item[Comparisons]]:
        """One item, if the window is one of preferences."""
        events = view.events
        if events is None or events.kind != PREFERENCES:
            return []
        found = events.derive(comparisons_of, whole_history=self.whole_history)
        return [Item({"stream": events.stream}, found, events.completeness, "n")]

    def load(self, arrays: Arrays) -> Comparisons:
        """The comparisons of two arrays of ids."""
        chosen, rejected = (_ids(arrays, name) for name in ("chosen", "rejected"))
        if chosen.shape != rejected.shape:
            raise ConfigurationError(
                "rejected", rejected.shape, f"as many as chosen, {chosen.shape}"
            )
        return Comparisons(np.ones(len(chosen)), chosen, rejected)


@dataclass(frozen=True, slots=True)
class ComparedEmbeddings(PreferenceEvents):
    """The same, for metrics that look at embeddings instead of ids."""

    arrays: ClassVar[Mapping[str, str]] = {
        "features_chosen": "embeddings (m, k)",
        "features_rejected": "embeddings (m, k)",
    }

    def load(self, arrays: Arrays) -> Comparisons:
        """The comparisons of two arrays of embeddings; `reward_chosen`, `reward_rejected`, `weight` are optional."""
        for name in self.arrays:
            if name not in arrays or arrays[name].ndim != 2:
                raise ConfigurationError(name, sorted(arrays), "an array of shape (m, k)")
        first, second = (arrays[name] for name in self.arrays)
        if first.shape != second.shape:
            raise ConfigurationError("features_rejected", second.shape, f"{first.shape}")
        found = comparisons_of(arrays)
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class RolloutEvents:
    """Columns of one stream's rollouts in the window; only streams that tell `column`."""

    column: str

    name: ClassVar[str] = "rollouts of the window"
    arrays: ClassVar[Mapping[str, str]] = {}

    def gather(self, view: WindowView) -> list[Item[Rollouts]]:
        """One item, if the window is one of rollouts with that column."""
        events = view.events
        if events is None or events.kind != ROLLOUTS or self.column not in events.window:
            return []
        found = events.derive(rollouts_of, whole_history=False)
        return [Item({"stream": events.stream}, found, events.completeness)]

    def load(self, arrays: Arrays) -> Rollouts:
        """There is no offline door."""
        raise ConfigurationError("metric", self.name, "a metric of arrays")


def _ids(arrays: Arrays, name: str) -> NDArray[Any]:
    array = arrays.get(name)
    if array is None or array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ConfigurationError(name, sorted(arrays), "an array of integers of shape (m,)")
    return array.astype(np.uint64)
