"""Verdicts as marks: where on the step axis, on which rows, how grave."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from infoplane.wire import infoplane_pb2 as pb

MOST: Final = 12
_CODES: Final = {"info": 0, "warning": 1, "critical": 2}


@dataclass(frozen=True, slots=True)
class Mark:
    """One verdict on a chart. Steps are inclusive; `rows` are the taps or pairs of its evidence."""

    since_step: int
    detected_step: int
    severity: str
    metric: str
    rows: frozenset[str]

    @property
    def code(self) -> int:
        """Severity as the page's script knows it."""
        return _CODES.get(self.severity, _CODES["warning"])


def places_of(verdict: pb.Verdict) -> list[str]:
    """Return the taps, pairs or streams that the evidence names, each once."""
    found = [
        label.value
        for evidence in verdict.evidence
        for label in evidence.labels
        if label.name in ("tap", "pair", "stream")
    ]
    return list(dict.fromkeys(found))


def marks_of(verdicts: Iterable[pb.Verdict]) -> list[Mark]:
    """Return the marks of the newest verdicts, in the order given."""
    return [
        Mark(
            verdict.since_step,
            verdict.detected_step,
            verdict.severity,
            verdict.metric,
            frozenset(places_of(verdict)),
        )
        for verdict in list(verdicts)[:MOST]
    ]
