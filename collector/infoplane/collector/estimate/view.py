"""A closed window as arrays: what the metrics read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from infoplane.collector.assemble import strata
from infoplane.collector.assemble.event_table import read_table
from infoplane.collector.taps import UNIT_PREFIX
from infoplane.estimators.state import LogHistogram, Moments, RowSample
from infoplane.wire import DecodeError, from_tensor
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.histograms import from_histogram

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Norms:
    """Power sums of full-width row norms |x| of one tap."""

    n: float
    sum_square: float
    sum_fourth: float
    maximum: float
    nonfinite: int
    width: int


@dataclass(frozen=True)
class TapView:
    """One tap of one window; arrays are made when first asked for.

    `sketch` and `keys` as in the schema: moments about zero of the projected rows, a sample of them by key. `pane` is
    where they came in; its columns say which rows are a uniform sample.
    """

    sketch: pb.TapSketch
    row_keys: pb.Tensor
    completeness: float
    pane: pb.WindowPane | None = None

    @cached_property
    def moments(self) -> Moments | None:
        """Moments of the projected rows, None if the tap sends none. Raises DecodeError."""
        if not self.sketch.HasField("moments"):
            return None
        total = from_tensor(self.sketch.moments.total, shape=(None,)).astype(np.float64)
        r = len(total)
        triangle = from_tensor(self.sketch.moments.outer, shape=(r * (r + 1) // 2,))
        return Moments.of_triangle(self.sketch.moments.n, total, triangle)

    @cached_property
    def rows(self) -> RowSample | None:
        """A uniform sample of projected rows, None if the tap sends none. Raises DecodeError.

        Rows that are in the pane for their novelty alone are not in it.
        """
        found = self.weighted_rows
        return found if found is None else _uniform(found)

    @cached_property
    def weighted_rows(self) -> RowSample | None:
        """All sampled projected rows, None if the tap sends none. Raises DecodeError.

        With the column `#inclusion` where rows were chosen by novelty: the sum of y / inclusion estimates that of y
        over all rows, up to a factor which the pane's rows share (`rows_total` / the sum of 1 / inclusion). For sums
        and means only: an estimator that takes its rows as independent draws must have `rows`.
        """
        if not self.sketch.HasField("rows"):
            return None
        keys = from_tensor(self.row_keys, shape=(None,))
        scaled = from_tensor(self.sketch.rows.scaled, shape=(len(keys), None))
        scale = from_tensor(self.sketch.rows.scale, shape=(len(keys),))
        columns = strata.of_pane(self.pane, len(keys)) if self.pane is not None else {}
        return RowSample(keys, scaled.astype(np.float32) * scale[:, None], columns)

    @cached_property
    def elements(self) -> LogHistogram | None:
        """Histogram of activation elements, None if the tap sends none. Raises DecodeError."""
        if not self.sketch.HasField("elements"):
            return None
        histogram = self.sketch.elements
        counts = from_histogram(histogram)
        try:
            return LogHistogram(counts, histogram.nonfinite, histogram.is_signed)
        except ValueError as error:
            raise DecodeError("content", str(error)) from None

    @cached_property
    def summaries(self) -> Mapping[str, NDArray[Any]]:
        """What the tap's probe says besides, by name. Raises DecodeError."""
        return {one.name: from_tensor(one.values) for one in self.sketch.summaries}

    @property
    def norms(self) -> Norms:
        """Norm statistics at full width."""
        n = self.sketch.norms
        return Norms(n.n, n.sum_square, n.sum_fourth, n.maximum, n.nonfinite, self.sketch.width)


def _uniform(sample: RowSample) -> RowSample:
    """Return the rows that are a uniform sample, without the columns that say so."""
    if strata.UNIFORM not in sample.columns:
        return sample
    kept = sample.take(np.flatnonzero(sample.columns[strata.UNIFORM]))
    own = (strata.INCLUSION, strata.UNIFORM)
    return RowSample(
        kept.keys, kept.values, {n: c for n, c in kept.columns.items() if n not in own}
    )


@dataclass(frozen=True)
class TokensView:
    """Sampled tokens: columns by name, rows by key."""

    tokens: pb.Tokens
    completeness: float
    pane: pb.WindowPane | None = None

    @cached_property
    def sample(self) -> RowSample:
        """A uniform sample of rows without values, with the columns position, target, log_prob, entropy, valid.

        Raises DecodeError.
        """
        keys = from_tensor(self.tokens.row_keys, shape=(None,))
        columns: dict[str, NDArray[Any]] = {
            column.name: from_tensor(column.values, shape=(len(keys),))
            for column in self.tokens.columns
        }
        if self.pane is not None:
            columns |= strata.of_pane(self.pane, len(keys))
        return _uniform(RowSample(keys, np.zeros((len(keys), 0), np.float32), columns))

    @property
    def vocabulary(self) -> int:
        """Size of the vocabulary, 0 = unknown."""
        return self.tokens.vocabulary

    @property
    def mode(self) -> str:
        """`ids`, `buckets` or `none`."""
        return self.tokens.token_mode


@dataclass(frozen=True)
class EventsView:
    """The events of one stream: those of the window, and the distinct ones of all windows that are kept up to it.

    Both as ids and columns, rows by id. An id that several windows hold belongs to the earliest.
    """

    stream: str
    kind: str
    completeness: float
    tables: tuple[pb.EventTable, ...]
    kept: tuple[pb.EventTable, ...]  # newest window first
    _derived: dict[tuple[Callable[..., Any], bool], Any] = field(default_factory=dict)

    def derive(
        self, convert: Callable[[Mapping[str, NDArray[Any]]], T], *, whole_history: bool
    ) -> T:
        """Return `convert` of the columns, computed once for all metrics that ask. Raises DecodeError."""
        key = (convert, whole_history)
        if key not in self._derived:
            self._derived[key] = convert(self.history if whole_history else self.window)
        found: T = self._derived[key]
        return found

    @cached_property
    def window(self) -> dict[str, NDArray[Any]]:
        """Columns of the window's own events. Raises DecodeError."""
        return _united(self.tables)

    @cached_property
    def history(self) -> dict[str, NDArray[Any]]:
        """Columns of the kept windows' events. Raises DecodeError."""
        return _united(self.kept)


def _united(tables: Iterable[pb.EventTable]) -> dict[str, NDArray[Any]]:
    """Return the columns that all tables have, one row an id: that of the last table that holds it."""
    read = [read_table(table) for table in tables if table.ids.shape and table.ids.shape[0]]
    if not read:
        return {}
    read.reverse()
    _, first = np.unique(np.concatenate([ids for ids, _ in read]), return_index=True)
    names = set.intersection(*(set(columns) for _, columns in read))
    shapes = {name: {columns[name].shape[1:] for _, columns in read} for name in names}
    return {
        name: np.concatenate([columns[name] for _, columns in read])[first]
        for name in sorted(names)
        if len(shapes[name]) == 1
    }


@dataclass(frozen=True)
class UnitView:
    """One unit's last pane of the window."""

    name: str
    expected: int
    present: int

    @property
    def completeness(self) -> float:
        """Present over expected."""
        return self.present / self.expected if self.expected else 0.0


@dataclass(frozen=True)
class WindowView:
    """Everything the run said about one window."""

    run: str
    attempt: int
    window: int
    first_step: int
    last_step: int
    units: tuple[UnitView, ...]
    taps: Mapping[str, TapView] = field(default_factory=dict)
    inputs: Mapping[str, TapView] = field(default_factory=dict)  # taps that another unit sends
    tokens: TokensView | None = None
    scalars: tuple[pb.ScalarSum, ...] = ()
    counters: tuple[pb.Counter, ...] = ()
    missing_units: tuple[str, ...] = field(default=())
    events: EventsView | None = None

    @classmethod
    def of_events(cls, panes: Sequence[pb.WindowPane], kept: Iterable[pb.EventTable]) -> WindowView:
        """Return the view of one window of a stream of events; `kept` newest window first."""
        head = panes[0]
        unit = UnitView(head.unit, head.expected, head.present)
        stream = head.unit.removeprefix(UNIT_PREFIX)
        tables = tuple(pane.events for pane in panes)
        events = EventsView(stream, head.events.kind, unit.completeness, tables, tuple(kept))
        return cls(
            run=head.run,
            attempt=head.attempt,
            window=head.window,
            first_step=head.first_step,
            last_step=head.last_step,
            units=(unit,),
            events=events,
        )

    @classmethod
    def of_panes(
        cls, panes: Iterable[pb.WindowPane], missing_units: Iterable[str] = ()
    ) -> WindowView:
        """Return the view of one window from the parts of every unit's last pane; at least one."""
        panes = list(panes)
        head = panes[0]
        taps: dict[str, TapView] = {}
        inputs: dict[str, TapView] = {}
        tokens: TokensView | None = None
        scalars: list[pb.ScalarSum] = []
        counters: list[pb.Counter] = []
        units = {pane.unit: UnitView(pane.unit, pane.expected, pane.present) for pane in panes}
        for pane in panes:
            kind = pane.WhichOneof("body")
            completeness = units[pane.unit].completeness
            if kind == "tap":
                where = inputs if pane.tap.duplicate else taps
                where[pane.tap.tap] = TapView(pane.tap, pane.row_keys, completeness, pane)
            elif kind == "tokens":
                tokens = TokensView(pane.tokens, completeness, pane)
            elif kind == "scalars":
                scalars.extend(pane.scalars.values)
            elif kind == "agent":
                counters.extend(pane.agent.counters)
        return cls(
            run=head.run,
            attempt=head.attempt,
            window=head.window,
            first_step=head.first_step,
            last_step=head.last_step,
            taps=taps,
            inputs=inputs,
            tokens=tokens,
            scalars=tuple(scalars),
            counters=tuple(counters),
            units=tuple(units.values()),
            missing_units=tuple(missing_units),
        )

    def tap(self, name: str) -> TapView | None:
        """Return a tap, or its duplicate where the unit that owns it is missing."""
        return self.taps.get(name) or self.inputs.get(name)
