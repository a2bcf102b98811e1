"""The list of interventions, the newest on top; not there until something was proposed."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from infoplane.collector.interventions import Intervention
from infoplane.exporter.page.status import NOTHING, spell_clock

_SHOWN = 50
# An intervention that was not carried out needs somebody to look; the others are news.
_LOOKS = {"applied": "good", "refused": "warning", "failed": "critical"}


class InterventionList:
    """One panel; rebuilt only when the trail changes, so that nothing flickers."""

    def __init__(self, width: str) -> None:
        self._shown: list[Any] = []
        with ui.element("section").classes(f"panel {width}") as self._box:
            self._box.props('data-panel="interventions"')
            with ui.element("div").classes("title"):
                ui.label("Interventions").classes("inline")
                ui.label(" \u00b7 newest first, times in UTC").classes("inline muted")
            self._list = ui.element("div").classes("verdicts")
        self._box.set_visibility(False)

    def show(self, interventions: list[Intervention]) -> None:
        """Show these interventions."""
        shown = [(one.id, one.stage, one.applied_steps) for one in interventions]
        if shown == self._shown:
            return
        self._shown = shown
        self._box.set_visibility(bool(interventions))
        self._list.clear()
        with self._list:
            for one in interventions[:_SHOWN]:
                _row(one)


def _row(one: Intervention) -> None:
    with ui.element("div").classes("verdict").props(f'data-intervention="{one.id}"'):
        ui.label(one.stage.upper()).classes(f"severity {_LOOKS.get(one.stage, 'info')}")
        with ui.element("div").classes("steps"):
            ui.label(steps_of(one))
            ui.label(f"since {spell_clock(one.since_ms / 1000)}").classes("taps")
        with ui.element("div"):
            ui.label(f"{one.describe()} \u00b7 rule {one.head.rule} \u00b7 {one.head.mode}")
            ui.label(one.reason).classes("taps")


def steps_of(one: Intervention) -> str:
    """Return the applied step of every rank in words; the ranks are named only where they differ."""
    applied = one.applied_steps
    if not applied:
        return f"not applied {NOTHING} window {one.head.window:,}"
    if len(set(applied.values())) == 1:
        return f"step {next(iter(applied.values())):,} on {len(applied)} ranks"
    return ", ".join(f"rank {rank}: step {step:,}" for rank, step in applied.items())
