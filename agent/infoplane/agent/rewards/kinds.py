"""The three kinds of reward events, and which columns make an event's identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class EventKind:
    """One kind of event.

    Attributes:
        name: as on the wire.
        contents: columns that are hashed, in the order in which they make the id.
        is_judgement: the same contents are the same event, wherever and whenever they are seen. If not, step, rank
            and place in the call belong to the id: a policy may sample one response twice.
        required: columns that no call may leave out.
    """

    name: str
    contents: tuple[str, ...]
    is_judgement: bool
    required: tuple[str, ...] = ()


RATER: Final = "rater"
PREFERENCES: Final = EventKind("preferences", ("prompt", "chosen", "rejected", RATER), True)
ROLLOUTS: Final = EventKind("rollouts", ("prompt", "response"), False)
SCORES: Final = EventKind("scores", ("prompt", "response"), False, ("reward",))
