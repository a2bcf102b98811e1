"""The observe_* methods of the monitor, together."""

from __future__ import annotations

from infoplane.agent.rewards.generations import Generations
from infoplane.agent.rewards.judgements import Judgements


class Observing(Judgements, Generations):
    """What a monitor can be told about rewards. Nothing here raises, waits, or does anything when disabled."""
