"""One estimate of one window, as the exporter keeps it: numbers only, a third of a message's size."""

from __future__ import annotations

from dataclasses import dataclass

from infoplane.wire import infoplane_pb2 as pb

Labels = tuple[tuple[str, str], ...]
Order = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class SeriesId:
    """What one series is called inside its run; `labels` sorted by name."""

    metric: str
    labels: Labels

    def label(self, name: str) -> str:
        """Return the value of one label, empty if the series does not carry it."""
        return dict(self.labels).get(name, "")


@dataclass(frozen=True, slots=True)
class Point:
    """One estimate. Values are in the metric's unit, steps are inclusive, the clock is Unix seconds."""

    order: Order
    first_step: int
    last_step: int
    clock_s: float
    value: float
    n: int
    completeness: float
    undefined: str = ""
    null_mean: float | None = None
    null_sd: float | None = None
    ceiling: float | None = None
    saturated: bool = False
    band_low: float | None = None
    band_high: float | None = None

    @property
    def attempt(self) -> int:
        """The attempt that the window belongs to."""
        return self.order[0]

    @property
    def window(self) -> int:
        """Index of the window."""
        return self.order[1]


def series_of(result: pb.Result) -> SeriesId:
    """Return the series that `result` belongs to."""
    return SeriesId(result.metric, tuple(sorted((one.name, one.value) for one in result.labels)))


def point_of(result: pb.Result) -> Point:
    """Return the numbers of `result`."""

    def given(name: str) -> float | None:
        return float(getattr(result, name)) if result.HasField(name) else None

    return Point(
        order=(result.attempt, result.window, int(result.pane.kind), result.pane.index),
        first_step=result.first_step,
        last_step=result.last_step,
        clock_s=result.clock_ms / 1000.0,
        value=result.value,
        n=result.n,
        completeness=result.completeness,
        undefined=result.undefined,
        null_mean=given("null_mean"),
        null_sd=given("null_sd"),
        ceiling=given("ceiling"),
        saturated=result.saturated,
        band_low=given("band_low"),
        band_high=given("band_high"),
    )
