"""How often probes look that are too dear for every sampled step: once a window, where that is possible."""

from __future__ import annotations

from infoplane.agent.settings import Settings


def window_level(settings: Settings) -> int:
    """Return the coarsest level whose steps meet every window, base level + 3 by default.

    2^level <= width << base level, the span of a window.
    """
    rule = settings.sampling
    return rule.base_level + rule.width.bit_length() - 1
