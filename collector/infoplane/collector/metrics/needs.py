"""The kinds of input that metrics need, from a window or from arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from infoplane.collector.estimate.view import Norms, TapView, TokensView, WindowView
from infoplane.collector.metrics.metric import Arrays, Item
from infoplane.collector.taps import depth_key, is_residual, layer_of
from infoplane.estimators.state import LogHistogram, Moments, RowSample
from infoplane.wire import ConfigurationError
from infoplane.wire import infoplane_pb2 as pb

NEXT_TOKEN = "next_token"  # noqa: S105 - the label's name, no secret


@dataclass(frozen=True, slots=True)
class Pair:
    """Joined rows x `(n, dx)` and y `(n, dy)`."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Rows x `(n, d)` and their class `(n,)`."""

    x: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TokenValues:
    """One float per sampled token `(n,)`, and the size of the vocabulary (0 = unknown)."""

    values: NDArray[np.float64]
    vocabulary: int


def tap_labels(tap: str) -> dict[str, str]:
    """Return the labels of a metric of one tap."""
    return {"tap": tap, "layer": layer_of(tap)}


class PerTap:
    """Shared by the needs that look at one tap at a time."""

    def _each(
        self,
        view: WindowView,
        wanted: Callable[[str], bool],
        take: Callable[[TapView], Any],
    ) -> list[Item[Any]]:
        items = []
        for name in sorted(filter(wanted, view.taps), key=depth_key):
            tap = view.taps[name]
            value = take(tap)
            if value is not None:
                items.append(Item(tap_labels(name), value, tap.completeness))
        return items


class TapMoments(PerTap):
    """Moments of the projected rows of every tap that sends them."""

    name: ClassVar[str] = "moments of one tap"
    arrays: ClassVar[Mapping[str, str]] = {"x": "rows (n, d)"}

    def gather(self, view: WindowView) -> list[Item[Moments]]:
        """One item a tap."""
        return self._each(view, lambda name: True, lambda tap: tap.moments)

    def load(self, arrays: Arrays) -> Moments:
        """Moments of the rows x."""
        return Moments.of_rows(matrix_named(arrays, "x").astype(np.float64))


class TapNorms(PerTap):
    """Norm statistics at full width."""

    name: ClassVar[str] = "row norms of one tap"
    arrays: ClassVar[Mapping[str, str]] = {"x": "rows (n, d)"}

    def gather(self, view: WindowView) -> list[Item[Norms]]:
        """One item a tap on the main stream."""
        return self._each(view, is_residual, lambda tap: tap.norms if tap.norms.n else None)

    def load(self, arrays: Arrays) -> Norms:
        """Norm statistics of the rows x."""
        x = matrix_named(arrays, "x").astype(np.float64)
        square = (x**2).sum(axis=1)
        bad = int((~np.isfinite(square)).sum())
        kept = square[np.isfinite(square)]
        return Norms(
            float(len(kept)),
            float(kept.sum()),
            float((kept**2).sum()),
            float(np.sqrt(kept.max(initial=0.0))),
            bad,
            x.shape[1],
        )


class ActivationElements(PerTap):
    """Histogram of the elements of the activation function's output."""

    name: ClassVar[str] = "elements of one activation"
    arrays: ClassVar[Mapping[str, str]] = {"x": "activations, any shape"}

    def gather(self, view: WindowView) -> list[Item[LogHistogram]]:
        """One item an `act` tap."""
        return self._each(view, lambda name: True, lambda tap: tap.elements)

    def load(self, arrays: Arrays) -> LogHistogram:
        """Histogram of the elements of x."""
        return LogHistogram.of_values(array_named(arrays, "x"))


class NeighbourRows:
    """Rows of neighbouring taps on the main stream, joined by key."""

    name: ClassVar[str] = "rows of two neighbouring taps"
    arrays: ClassVar[Mapping[str, str]] = {"x": "rows (n, dx)", "y": "rows (n, dy)"}

    def gather(self, view: WindowView) -> list[Item[Pair]]:
        """One item a pair of neighbours, from the input to the output."""
        names = sorted(filter(is_residual, {*view.taps, *view.inputs}), key=depth_key)
        return [self._pair(view, first, second) for first, second in pairwise(names)]

    def _pair(self, view: WindowView, first: str, second: str) -> Item[Pair]:
        labels = {"pair": f"{first}|{second}", "layer": layer_of(second)}
        a, b = view.tap(first), view.tap(second)
        assert a is not None
        assert b is not None
        completeness = min(a.completeness, b.completeness)
        if a.rows is None or b.rows is None:
            return Item(labels, None, completeness, "rows")
        mine, theirs = a.rows.join(b.rows)
        pair = Pair(a.rows.values[mine], b.rows.values[theirs])
        return Item(labels, pair, completeness)

    def load(self, arrays: Arrays) -> Pair:
        """The rows x and y."""
        x, y = matrix_named(arrays, "x"), matrix_named(arrays, "y")
        if len(x) != len(y):
            raise ConfigurationError("y", y.shape, f"as many rows as x, {len(x)}")
        return Pair(x, y)


class LabelledRows:
    """Rows of a tap joined with the class of the next token."""

    name: ClassVar[str] = "rows of one tap and the next token's bucket"
    arrays: ClassVar[Mapping[str, str]] = {"x": "rows (n, d)", "labels": "classes (n,)"}

    def gather(self, view: WindowView) -> list[Item[Labelled]]:
        """One item a tap on the main stream."""
        return [
            self._labelled(view, name)
            for name in sorted(filter(is_residual, view.taps), key=depth_key)
        ]

    def _labelled(self, view: WindowView, name: str) -> Item[Labelled]:
        labels = {**tap_labels(name), "label": NEXT_TOKEN}
        tap = view.taps[name]
        if view.tokens is None:
            return Item(labels, None, tap.completeness, "unit")
        completeness = min(tap.completeness, view.tokens.completeness)
        sample = view.tokens.sample
        if "target" not in sample.columns or tap.rows is None:
            return Item(labels, None, completeness, "labels")
        mine, theirs = tap.rows.join(sample)
        valid = _valid(sample)[theirs]
        target = sample.columns["target"][theirs][valid].astype(np.int64)
        return Item(labels, Labelled(tap.rows.values[mine][valid], target), completeness)

    def load(self, arrays: Arrays) -> Labelled:
        """The rows x and their labels."""
        x, labels = matrix_named(arrays, "x"), array_named(arrays, "labels")
        if labels.shape != (len(x),) or not np.issubdtype(labels.dtype, np.integer):
            raise ConfigurationError(
                "labels", f"{labels.dtype} {labels.shape}", f"integers of shape ({len(x)},)"
            )
        return Labelled(x, labels.astype(np.int64))


@dataclass(frozen=True, slots=True)
class TokenColumn:
    """One float column of the sampled tokens that have a target."""

    column: str

    @property
    def name(self) -> str:
        """What `infoplane metrics show` prints."""
        return f"the tokens' {self.column}"

    @property
    def arrays(self) -> Mapping[str, str]:
        """The offline door."""
        return {"x": f"{self.column} per token (n,), nats"}

    def gather(self, view: WindowView) -> list[Item[TokenValues]]:
        """One item, if tokens were captured with this column."""
        if view.tokens is None:
            return [Item({}, None, 0.0, "unit")] if "tokens" in view.missing_units else []
        if self.column not in view.tokens.sample.columns:
            return []
        values = self._values(view.tokens)
        return [Item({}, values, view.tokens.completeness)]

    def _values(self, tokens: TokensView) -> TokenValues:
        sample = tokens.sample
        column = sample.columns[self.column][_valid(sample)]
        return TokenValues(column.astype(np.float64), tokens.vocabulary)

    def load(self, arrays: Arrays) -> TokenValues:
        """The values x."""
        return TokenValues(array_named(arrays, "x").astype(np.float64).ravel(), 0)


@dataclass(frozen=True, slots=True)
class ScalarSums:
    """Scalars that the run logs (or announces), by name."""

    announced: bool

    name: ClassVar[str] = "scalars of the run"
    arrays: ClassVar[Mapping[str, str]] = {}

    def gather(self, view: WindowView) -> list[Item[pb.ScalarSum]]:
        """One item a name."""
        unit = {unit.name: unit for unit in view.units}.get("scalars")
        return [
            Item({"stream": one.name}, one, unit.completeness if unit else 0.0)
            for one in view.scalars
            if one.announced == self.announced
        ]

    def load(self, arrays: Arrays) -> pb.ScalarSum:
        """There is no offline door."""
        raise ConfigurationError("metric", self.name, "a metric of arrays")


@dataclass(frozen=True, slots=True)
class UnitCompleteness:
    """(present, expected) of every unit."""

    name: ClassVar[str] = "completeness of every unit"
    arrays: ClassVar[Mapping[str, str]] = {}

    def gather(self, view: WindowView) -> list[Item[tuple[int, int]]]:
        """One item a unit."""
        return [
            Item({"stream": unit.name}, (unit.present, unit.expected), unit.completeness)
            for unit in sorted(view.units, key=lambda unit: unit.name)
        ]

    def load(self, arrays: Arrays) -> tuple[int, int]:
        """There is no offline door."""
        raise ConfigurationError("metric", self.name, "a metric of arrays")


@dataclass(frozen=True, slots=True)
class AgentCounters:
    """Running totals of the agents, summed over ranks; `counters` names what goes in, `by_reason` splits."""

    counters: tuple[str, ...]
    by_reason: bool = False

    name: ClassVar[str] = "totals of the agents"
    arrays: ClassVar[Mapping[str, str]] = {}

    def gather(self, view: WindowView) -> list[Item[dict[str, float]]]:
        """One item, or one a reason."""
        unit = {unit.name: unit for unit in view.units}.get("agent")
        if unit is None:
            return []
        found = [c for c in view.counters if c.name in self.counters]
        if self.by_reason:
            return [Item({"reason": c.reason}, {c.name: c.value}, unit.completeness) for c in found]
        totals = dict.fromkeys(self.counters, 0.0)
        for counter in found:
            totals[counter.name] += counter.value
        return [Item({}, totals, unit.completeness)]

    def load(self, arrays: Arrays) -> dict[str, float]:
        """There is no offline door."""
        raise ConfigurationError("metric", self.name, "a metric of arrays")


def _valid(sample: RowSample) -> NDArray[np.bool_]:
    valid = sample.columns.get("valid")
    if valid is None:
        return np.ones(len(sample.keys), dtype=bool)
    return np.asarray(valid, dtype=bool)


def array_named(arrays: Arrays, name: str) -> NDArray[Any]:
    """Return one of the user's arrays. Raises ConfigurationError: it is missing or empty."""
    array = arrays.get(name)
    if array is None or array.size == 0:
        raise ConfigurationError(name, sorted(arrays), "an array that is not empty")
    return array


def matrix_named(arrays: Arrays, name: str) -> NDArray[np.float32]:
    """Return one of the user's arrays as rows (n, d). Raises ConfigurationError: it is something else."""
    array = array_named(arrays, name)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.number):
        raise ConfigurationError(name, f"{array.dtype} {array.shape}", "numbers of shape (n, d)")
    return array.astype(np.float32 if array.dtype != np.float64 else np.float64)
