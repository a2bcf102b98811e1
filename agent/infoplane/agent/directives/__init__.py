"""Directives: what the topic `config` tells the agents of a run, applied by all ranks at the same window.

Off by default. A directive changes which rows are sampled and which taps are captured, never the
training. No rank waits for it, and none asks another: the step is part of the directive.
"""

from infoplane.agent.directives.choice import taps_to_leave_out
from infoplane.agent.directives.desk import Desk, DirectiveSource
from infoplane.agent.directives.directive import (
    REFUSALS,
    Directive,
    Expected,
    Reference,
    RefusedDirectiveError,
    read_directive,
)

__all__ = [
    "REFUSALS",
    "Desk",
    "Directive",
    "DirectiveSource",
    "Expected",
    "Reference",
    "RefusedDirectiveError",
    "read_directive",
    "taps_to_leave_out",
]
