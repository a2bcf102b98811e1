"""The list of verdicts, the newest on top."""

from __future__ import annotations

from nicegui import ui

from infoplane.exporter.page.marks import places_of
from infoplane.wire import infoplane_pb2 as pb

_SHOWN = 50
_PLACES = 6


class VerdictList:
    """One panel; rebuilt only when the verdicts change, so that nothing flickers."""

    def __init__(self, width: str) -> None:
        self._shown: list[tuple[str, int]] = []
        with ui.element("section").classes(f"panel {width}").props('data-panel="verdicts"'):
            with ui.element("div").classes("title"):
                ui.label("Verdicts").classes("inline")
                ui.label(" · newest first").classes("inline muted")
            self._list = ui.element("div").classes("verdicts")
        self.show([])

    def show(self, verdicts: list[pb.Verdict]) -> None:
        """Show these verdicts."""
        shown = [(one.id, one.clock_ms) for one in verdicts]
        if shown == self._shown and shown:
            return
        self._shown = shown
        self._list.clear()
        with self._list:
            if not verdicts:
                ui.label("No detector has spoken in this run.").classes("note")
            for verdict in verdicts[:_SHOWN]:
                _row(verdict)


def _row(verdict: pb.Verdict) -> None:
    with ui.element("div").classes("verdict").props(f'data-verdict="{verdict.id}"'):
        ui.label(verdict.severity.upper()).classes(f"severity {verdict.severity}")
        with ui.element("div").classes("steps"):
            ui.label(f"since step {verdict.since_step:,}")
            ui.label(f"detected at {verdict.detected_step:,}").classes("taps")
        with ui.element("div"):
            ui.label(verdict.sentence)
            ui.label(_places(verdict)).classes("taps")


def _places(verdict: pb.Verdict) -> str:
    places = places_of(verdict)
    more = f" and {len(places) - _PLACES} more" if len(places) > _PLACES else ""
    named = ", ".join(places[:_PLACES]) + more
    return " · ".join(filter(None, (verdict.metric, verdict.pattern, named)))
