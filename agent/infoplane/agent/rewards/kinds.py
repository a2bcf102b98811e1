"""The kinds of reward events, which columns make an event's identity, and how numbers of tokens are reduced."""

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
        required: columns of numbers that no call may leave out.
        blank: contents that may be left out, or be None for single events; their hash is 0 then.
        extras: contents that are hashed and sent where told, and are no part of the id.
        summed: columns whose numbers of tokens are summed over the mask; others are averaged.
        counted: column that holds the number of tokens under the mask, where the call does not tell it.
    """

    name: str
    contents: tuple[str, ...]
    is_judgement: bool
    required: tuple[str, ...] = ()
    blank: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    summed: frozenset[str] = frozenset()
    counted: str = ""

    def may_lack(self, name: str) -> bool:
        """Return whether a call may leave the contents `name` out."""
        return name in self.blank or name in self.extras


RATER: Final = "rater"
PREFERENCES: Final = EventKind(
    "preferences", ("prompt", "chosen", "rejected", RATER), True, blank=(RATER,)
)
VOTES: Final = EventKind("votes", ("prompt", "response", RATER), True, ("vote",))
ROLLOUTS: Final = EventKind(
    "rollouts",
    ("prompt", "response"),
    False,
    extras=("prefix",),
    summed=frozenset(
        {"reward", "log_prob", "reference_log_prob", "rollout_log_prob", "null_log_prob"}
    ),
    counted="tokens",
)
SCORES: Final = EventKind("scores", ("prompt", "response"), False, ("reward",))
SEARCH: Final = EventKind(
    "search", ("prompt", "node", "parent"), False, blank=("parent",), extras=("prefix",)
)
COT: Final = EventKind(
    "cot",
    ("prompt", "prefix", "thought"),
    False,
    ("index",),
    blank=("thought",),
    extras=("response",),
)
