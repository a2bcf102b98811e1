"""Verdicts and interventions as marks: where on the step axis, on which rows, how grave."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from infoplane.collector.interventions import Intervention
from infoplane.wire import infoplane_pb2 as pb

MOST: Final = 12
_ACTION_CODE: Final = 3
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


@dataclass(frozen=True, slots=True)
class ActionMark:
    """One intervention on a chart: a line where it took effect, or where it was proposed if nothing was done."""

    step: int
    name: str
    is_applied: bool

    @property
    def code(self) -> int:
        """What the page's script draws it as."""
        return _ACTION_CODE


def action_marks_of(interventions: Iterable[Intervention]) -> list[ActionMark]:
    """Return the marks of the newest interventions; what was refused or failed leaves none."""
    marks = []
    for one in list(interventions)[:MOST]:
        applied = one.applied_steps
        if applied:
            marks.append(ActionMark(min(applied.values()), one.describe(), True))
        elif one.stage in ("proposed", "sent"):
            marks.append(ActionMark(one.head.step, f"{one.describe()}, {one.stage}", False))
    return marks
