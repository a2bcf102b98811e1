"""The kinds of input that the metrics of representations need besides those of `needs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from infoplane.collector.estimate.view import TapView, WindowView
from infoplane.collector.metrics.metric import Arrays, Item
from infoplane.collector.metrics.needs import PerTap, array_named, matrix_named, tap_labels
from infoplane.collector.taps import depth_key, is_residual
from infoplane.estimators.state import LogHistogram
from infoplane.wire import ConfigurationError
from infoplane.wire.activations import function_named

RUNS_PREFIX = "runs/"
RUN_LENGTH = 128
_PLACE_BITS = np.uint64(16)  # of a run's row key: the place in the run


class TapRows(PerTap):
    """A uniform sample of the projected rows of every tap on the main stream."""

    name: ClassVar[str] = "rows of one tap"
    arrays: ClassVar[Mapping[str, str]] = {"x": "rows (n, d)"}

    def gather(self, view: WindowView) -> list[Item[NDArray[np.float32]]]:
        """One item a tap."""
        return self._each(view, is_residual, _rows_of)

    def load(self, arrays: Arrays) -> NDArray[np.float32]:
        """The rows x."""
        return matrix_named(arrays, "x")


def _rows_of(tap: TapView) -> NDArray[np.float32] | None:
    return None if tap.rows is None else tap.rows.values


class TapRuns:
    """Projected rows of runs of neighbouring tokens."""

    name: ClassVar[str] = "runs of neighbouring tokens of one tap"
    arrays: ClassVar[Mapping[str, str]] = {"runs": "runs (s, T, d)"}

    def gather(self, view: WindowView) -> list[Item[NDArray[np.float32]]]:
        """One item a tap of the unit `runs`."""
        items = []
        for name in sorted(view.taps, key=depth_key):
            if name.startswith(RUNS_PREFIX):
                tap = view.taps[name]
                layer = name.removeprefix(RUNS_PREFIX)
                items.append(
                    Item(
                        {"tap": f"{layer}/block", "layer": layer},
                        _whole_runs(tap),
                        tap.completeness,
                    )
                )
        return items

    def load(self, arrays: Arrays) -> NDArray[np.float32]:
        """The runs."""
        runs = array_named(arrays, "runs")
        if runs.ndim != 3:
            raise ConfigurationError("runs", runs.shape, "numbers of shape (s, T, d)")
        return runs.astype(np.float32)


def _whole_runs(tap: TapView) -> NDArray[np.float32]:
    """Return the runs (s, T, d) of which all places are there; T is the length that most have."""
    rows = tap.rows
    if rows is None or len(rows) == 0:
        return np.zeros((0, RUN_LENGTH, 1), np.float32)
    runs, counts = np.unique(rows.keys >> _PLACE_BITS, return_counts=True)
    length = int(np.bincount(counts).argmax())
    is_whole = np.isin(rows.keys >> _PLACE_BITS, runs[counts == length])
    # Ascending by key is by run, then by place.
    return rows.values[is_whole].reshape(-1, length, rows.values.shape[1])


@dataclass(frozen=True, slots=True)
class FunctionInputs:
    """Histogram of what goes into an activation function, and which function it is."""

    inputs: LogHistogram
    function: str


class ActivationInputs:
    """Histogram of what goes into the activation function."""

    name: ClassVar[str] = "inputs of one activation function"
    arrays: ClassVar[Mapping[str, str]] = {
        "inputs": "inputs of the activation function, any shape",
        "function": "its number in infoplane.wire.activations",
    }

    def gather(self, view: WindowView) -> list[Item[FunctionInputs]]:
        """One item a layer, where the probe `activation` is on."""
        items = []
        for name in sorted(view.taps, key=depth_key):
            tap = view.taps[name]
            if name.endswith("/activation") and {"inputs", "function"} <= tap.summaries.keys():
                counts = tap.summaries["inputs"].astype(np.int64)
                histogram = LogHistogram(counts[:-1], int(counts[-1]), signed=True)
                function = function_named(int(tap.summaries["function"].max()))
                labels = tap_labels(name.removesuffix("activation") + "act")
                items.append(Item(labels, FunctionInputs(histogram, function), tap.completeness))
        return items

    def load(self, arrays: Arrays) -> FunctionInputs:
        """Histogram of the elements."""
        function = function_named(int(array_named(arrays, "function").ravel()[0]))
        return FunctionInputs(LogHistogram.of_values(array_named(arrays, "inputs")), function)


@dataclass(frozen=True, slots=True)
class ScalarPair:
    """Two scalars of the run, as (n, total, square) sums."""

    first: tuple[float, float, float]
    second: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class TwoScalars:
    """Two scalars that the run logs, by name: both must be there."""

    first: str
    second: str

    arrays: ClassVar[Mapping[str, str]] = {}

    @property
    def name(self) -> str:
        """What `infoplane metrics show` prints."""
        return f"the logged scalars {self.first} and {self.second}"

    def gather(self, view: WindowView) -> list[Item[ScalarPair]]:
        """One item, if both were logged in the window."""
        found = {one.name: one for one in view.scalars if not one.announced}
        if self.first not in found or self.second not in found:
            return []
        unit = {unit.name: unit for unit in view.units}.get("scalars")
        sums = [(s.n, s.total, s.square) for s in (found[self.first], found[self.second])]
        return [Item({}, ScalarPair(*sums), unit.completeness if unit else 0.0)]

    def load(self, arrays: Arrays) -> Any:
        """There is no offline door."""
        raise ConfigurationError("metric", self.name, "a metric of arrays")
