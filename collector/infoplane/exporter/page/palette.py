"""Colours. Cool ramps for what is measured, warm ones only for what is wrong."""

from __future__ import annotations

from typing import Final

TEXT: Final = "#c5cdd8"
MUTED: Final = "#8a94a3"
GRID: Final = "#2a303a"
PANEL: Final = "#191d24"

# Dark to light, monotone in lightness, free of the severities' hues.
VALUES: Final = ("#10203f", "#1c4a7a", "#2c7ba0", "#4fb0ab", "#9ad9b4", "#f1fadf")
# Falls are blue, rises are violet-pink, quiet is the colour of the panel.
CHANGES: Final = ("#5aa9ff", "#2f5f99", "#20262f", "#8a3f7d", "#f58adf")
LINES: Final = ("#6cb6ff", "#63d2b0", "#c9a7ff", "#9fb3c8", "#e6e08a", "#7f8ea3", "#4fb0ab")
SEVERITIES: Final = {"info": "#8ab4f8", "warning": "#ffb547", "critical": "#ff5c5c"}
ACTION: Final = "#f4f7fb"  # what was done: neither measured nor wrong


def severity_color(severity: str) -> str:
    """Return the colour of a severity; one that is unknown looks like a warning."""
    return SEVERITIES.get(severity, SEVERITIES["warning"])


def ramp(position: float) -> str:
    """Return the colour at `position` (0 to 1) of the ramp of values, without its darkest fifth."""
    place = (0.22 + 0.78 * min(max(position, 0.0), 1.0)) * (len(VALUES) - 1)
    low = min(int(place), len(VALUES) - 2)
    share = place - low
    pairs = zip(_rgb(VALUES[low]), _rgb(VALUES[low + 1]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
