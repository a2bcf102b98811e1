"""What ASSEMBLE knows of one attempt of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from infoplane.collector.assemble.roster import Roster
from infoplane.collector.assemble.window import Window
from infoplane.wire import infoplane_pb2 as pb


@dataclass(slots=True)
class Attempt:
    """One attempt: its window rule, its senders and its windows."""

    rule: pb.WindowRule  # width 0: only `expired_before` is known, from a memo
    roster: Roster
    units: list[str]
    windows: dict[int, Window] = field(default_factory=dict)
    expired_before: int = 0  # windows below this one are gone for good

    @property
    def span(self) -> int:
        """Steps of one window."""
        return int(self.rule.width << self.rule.base_level)
