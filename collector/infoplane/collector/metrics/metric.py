"""What the registry holds: metrics, where their values come from and what they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar

from numpy.typing import NDArray

from infoplane.collector.estimate.view import WindowView
from infoplane.estimators import Estimate

T = TypeVar("T")
Arrays = Mapping[str, NDArray[Any]]
Labels = tuple[tuple[str, str], ...]  # sorted by name

ALLOWED_LABELS = frozenset(
    {"layer", "tap", "pair", "head", "label", "stream", "estimator", "reason", "action"}
)


@dataclass(frozen=True, slots=True)
class Item(Generic[T]):
    """One thing to estimate: a tap, a pair, a stream ... `value` is None if the window cannot give it."""

    labels: Mapping[str, str]
    value: T | None
    completeness: float
    undefined: str = ""


class Need(Protocol[T]):
    """One kind of input, found in a window or loaded from arrays."""

    @property
    def name(self) -> str:
        """Short name, shown by `infoplane metrics show`."""
        ...

    @property
    def arrays(self) -> Mapping[str, str]:
        """Names of the arrays that `load` reads and what they hold; empty: no offline door."""
        ...

    def gather(self, view: WindowView) -> list[Item[T]]:
        """Return what the window offers. Raises infoplane.wire.DecodeError."""
        ...

    def load(self, arrays: Arrays) -> T:
        """Return the input made of `arrays`. Raises infoplane.wire.ConfigurationError."""
        ...


@dataclass(frozen=True, slots=True)
class Context:
    """What a computation is told besides its inputs.

    Attributes:
        device: where torch computes.
        seeds: one per input.
        options: by name.
        memory: one per input, of a source that remembers: the arrays that the computation left there in the last window
            in which it saw the same labels, to be replaced, never changed in place. Empty at first.
    """

    device: str
    seeds: Sequence[int]
    options: Mapping[str, Any] = field(default_factory=dict)
    memory: Sequence[dict[str, NDArray[Any]]] = ()


Compute = Callable[[Sequence[Any], Context], Sequence[Estimate]]
ComputeFamily = Callable[[Sequence[Any], Context], Sequence[Mapping[str, Estimate]]]


@dataclass(frozen=True, slots=True)
class Source:
    """One way to compute a metric.

    Attributes:
        estimator: id that results carry.
        need: the inputs.
        compute: one call for all inputs of a window; answers one estimate per input, in order. Of a family: one mapping
            from the names of metrics to estimates per input.
        cadence: compute in every `cadence`-th window.
        phase: the windows w with w % cadence == phase, so that costly sources take turns.
        family: name of a computation that several metrics share; it runs once a window. They have the same need.
        remembers: the computation reads and writes `Context.memory`.
        tier: live (on by default), opt (switched on) or report (on demand).
        options: names and defaults of what `Context.options` may hold.
    """

    estimator: str
    need: Need[Any]
    compute: Compute | ComputeFamily
    cadence: int = 1
    phase: int = 0
    family: str = ""
    remembers: bool = False
    tier: Literal["live", "opt", "report"] = "live"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family.

    Attributes:
        name: without the `infoplane_` prefix; ends in its unit.
        unit: nats, bits, ratio, 1, seconds, bytes.
        help: one sentence with unit and what it means.
        labels: label names besides run.
        sources: the ways to compute it.
        kind: gauge or counter.
        papers: numbers of the source papers (docs/papers.md).
        reading: how to read it, for people.
    """

    name: str
    unit: str
    help: str
    labels: tuple[str, ...]
    sources: tuple[Source, ...]
    kind: Literal["gauge", "counter"] = "gauge"
    papers: tuple[int, ...] = ()
    reading: str = ""

    def source_for(self, arrays: Arrays, estimator: str | None) -> Source | None:
        """Return the first source that `arrays` satisfy (and that is `estimator`, if given)."""
        fitting = [
            source
            for source in self.sources
            if source.need.arrays
            and set(source.need.arrays) <= set(arrays)
            and estimator in (None, source.estimator)
        ]
        # The most demanding need first: x and labels beat x alone.
        return max(fitting, key=lambda source: len(source.need.arrays), default=None)


def sorted_labels(labels: Mapping[str, str]) -> Labels:
    """Return labels in the order of the wire."""
    return tuple(sorted(labels.items()))
