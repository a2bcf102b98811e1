"""What the topics say about the demo's two runs, gathered while they run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import Message

from infoplane.wire import infoplane_pb2 as pb

PREFERENCES: Final = "preferences"
ROLLOUTS: Final = "rollouts"


@dataclass(slots=True)
class RlhfObservation:
    """Gathers results and verdicts of the runs `run`.reward and `run`.policy.

    Attributes:
        series: (metric, stream) -> window -> newest result.
        verdicts: in the order in which they came.
    """

    run: str
    series: dict[tuple[str, str], dict[int, pb.Result]] = field(default_factory=dict)
    verdicts: dict[str, pb.Verdict] = field(default_factory=dict)

    @property
    def runs(self) -> tuple[str, str]:
        """Return the names of the two runs."""
        return f"{self.run}.reward", f"{self.run}.policy"

    def add(self, message: Message | None) -> None:
        """Take in one message."""
        if message is None or getattr(message, "run", "") not in self.runs:
            return
        if isinstance(message, pb.Verdict):
            self.verdicts.setdefault(message.id, message)
        elif isinstance(message, pb.Result) and message.pane.kind in (pb.FINAL, pb.LATE):
            self._add_result(message)

    def _add_result(self, result: pb.Result) -> None:
        labels = {label.name: label.value for label in result.labels}
        if labels.keys() != {"stream"}:
            return
        # Both runs log a `loss`, and so on: the run tells such streams apart.
        part = result.run.removeprefix(f"{self.run}.")
        windows = self.series.setdefault((result.metric, f"{part}/{labels['stream']}"), {})
        known = windows.get(result.window)
        if known is None or _order(result) >= _order(known):
            windows[result.window] = result

    def results(self, metric: str, stream: str) -> list[pb.Result]:
        """Return the defined results of `metric`, window by window; `stream` as `reward/preferences`."""
        found = self.series.get((metric, stream), {})
        return [found[window] for window in sorted(found) if not found[window].undefined]

    def newest(self) -> Iterator[tuple[str, float]]:
        """Yield (metric, newest value) of the gauges of rewards."""
        for metric, stream in sorted(self.series):
            if stream in (f"reward/{PREFERENCES}", f"policy/{ROLLOUTS}"):
                found = self.results(metric, stream)
                if found:
                    yield metric, found[-1].value

    def has(self, metric: str, stream: str, last_step: int) -> bool:
        """Whether the window of `last_step` has a result of `metric`."""
        found = self.series.get((metric, stream), {})
        return any(result.last_step >= last_step for result in found.values())


def _order(result: pb.Result) -> tuple[int, int, int]:
    return (result.attempt, result.pane.kind, result.pane.index)
