"""What all phases of the run share on one rank."""

from __future__ import annotations

from dataclasses import dataclass

from infoplane.cli.demo.rlhf.criterion import Criterion
from infoplane.cli.demo.rlhf.plan import RlhfPlan
from infoplane.cli.demo.rlhf.prompts import Prompter
from infoplane.cli.demo.status import StatusWriter


@dataclass(frozen=True, slots=True)
class Scene:
    """One rank's surroundings.

    Attributes:
        run: name; the two engines are watched as `run`.reward and `run`.policy.
        plan: how many steps each phase has.
        prompter: cuts prompts and has a policy answer them.
        criterion: what honest raters value.
        out: progress lines.
    """

    run: str
    plan: RlhfPlan
    prompter: Prompter
    criterion: Criterion
    out: StatusWriter
