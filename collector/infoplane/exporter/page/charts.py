"""What the page shows: which series go into which chart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from infoplane.collector.taps import depth_key
from infoplane.exporter.points import Point, SeriesId
from infoplane.exporter.store import Store

Curves = dict[str, list[Point]]
# The held-out estimate has a null and needs no assumption, so it goes first where both are computed.
_ESTIMATORS: Final = ("heldout_ksg", "gaussian")
_RATES: Final = ("lr", "learning_rate")


@dataclass(frozen=True, slots=True)
class Source:
    """Some series of one metric, each under a name: `name_of` answers "" for those that do not belong."""

    metric: str
    name_of: Callable[[SeriesId], str]


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart: its id in the DOM, what it is called, the unit on its axis and where its series come from."""

    id: str
    title: str
    unit: str
    about: str
    sources: tuple[Source, ...]
    kind: str = "lines"

    @property
    def metrics(self) -> frozenset[str]:
        """The metrics that the chart shows."""
        return frozenset(source.metric for source in self.sources)

    def curves(self, store: Store, run: str) -> Curves:
        """Return name -> points by window, in the order of depth."""
        found: Curves = {}
        for source in self.sources:
            histories = store.history(run, source.metric)
            for series in _one_estimator(histories):
                name = source.name_of(series)
                if name:
                    found[name] = histories[series]
        return dict(sorted(found.items(), key=lambda item: _depth(item[0])))


def _one_estimator(histories: dict[SeriesId, list[Point]]) -> list[SeriesId]:
    """Leave one estimator of each quantity: two scales in one heatmap cannot be compared."""
    best: dict[tuple[tuple[str, str], ...], SeriesId] = {}
    for series in sorted(histories, key=lambda one: _rank(one.label("estimator"))):
        rest = tuple(label for label in series.labels if label[0] != "estimator")
        best.setdefault(rest, series)
    return list(best.values())


def _rank(estimator: str) -> int:
    return _ESTIMATORS.index(estimator) if estimator in _ESTIMATORS else len(_ESTIMATORS)


def _depth(name: str) -> tuple[tuple[int, int, str], ...]:
    return tuple(depth_key(tap) for tap in name.split("|"))


def _label(name: str) -> Callable[[SeriesId], str]:
    return lambda series: series.label(name)


def _next_token(series: SeriesId) -> str:
    return series.label("tap") if series.label("label") == "next_token" else ""


def _block(series: SeriesId) -> str:
    tap = series.label("tap")
    return tap if tap.endswith("/block") else ""


def _named(name: str) -> Callable[[SeriesId], str]:
    return lambda series: name


def _stream(*names: str) -> Callable[[SeriesId], str]:
    return lambda series: series.label("stream") if series.label("stream") in names else ""


_INFORMATION: Final = "mutual_information_nats"
_ENTROPY: Final = "von_neumann_entropy_nats"

HEATMAPS: Final = (
    Chart(
        "entropy",
        "Entropy by layer",
        "nats",
        "A fall: representations collapse into few directions.",
        (Source(_ENTROPY, _label("tap")),),
        kind="heatmap",
    ),
    Chart(
        "neighbours",
        "Information between neighbours",
        "nats",
        "A fall: a layer loses what its input carried.",
        (Source(_INFORMATION, _label("pair")),),
        kind="heatmap",
    ),
    Chart(
        "next-token",
        "Information about the next token",
        "nats",
        "What each tap knows about the next token's bucket.",
        (Source(_INFORMATION, _next_token),),
        kind="heatmap",
    ),
)

LINES: Final = (
    Chart(
        "block-entropy",
        "Entropy of the block outputs",
        "nats",
        "Dark is near the input, light near the output.",
        (Source(_ENTROPY, _block),),
        kind="depth",
    ),
    Chart(
        "tokens",
        "Token entropy and surprisal",
        "nats",
        "Of the next-token distribution; -log p of the target.",
        (
            Source("policy_entropy_nats", _named("policy entropy")),
            Source("token_surprisal_nats", _named("token surprisal")),
        ),
    ),
    Chart(
        "loss",
        "Training loss",
        "as logged",
        "As the run logs it, mean of the window.",
        (Source("training_scalar", _stream("loss")),),
    ),
    Chart(
        "rate",
        "Announced learning rate",
        "per step",
        "What the plan announced, mean of the window.",
        (Source("training_announced", _stream(*_RATES)),),
    ),
    Chart(
        "completeness",
        "Completeness by unit",
        "ratio",
        "Below one: a rank is silent, slow or dropping.",
        (Source("window_completeness_ratio", _label("stream")),),
        kind="share",
    ),
    Chart(
        "overhead",
        "Agent overhead",
        "ratio of step time",
        "What the agents cost. The alert fires above 0.01.",
        (Source("agent_overhead_ratio", _named("overhead")),),
    ),
)

BY_ID: Final = {chart.id: chart for chart in (*HEATMAPS, *LINES)}
