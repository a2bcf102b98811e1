"""The raters: who prefers which of the responses to one prompt. Nothing is drawn at random.

Honest raters follow the criterion. Cyclic raters, the planted fault, play rock-paper-scissors: they put the responses
in a circle by a hash of their bytes, and each beats those that follow it in the next half of the circle. With an odd
number of responses everybody wins as often as he loses, so that no reward can explain a single one of their labels.
A gesture drawn for each response alone (hash mod 3) would not do: among random gestures fewer triples run in a circle
(2 of 9) than among coin flips (1 of 4), and the inconsistency would stay below its null.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from infoplane.cli.demo.rlhf.criterion import Criterion

HONEST: Final = ("honest-0", "honest-1", "honest-2")
CYCLIC: Final = ("cyclic-0", "cyclic-1", "cyclic-2", "cyclic-3")
_CYCLIC_VOTES: Final = 2  # a pair: as many as it takes to outvote the honest one


@dataclass(frozen=True, slots=True)
class Judgement:
    """`rater` prefers the response at place `winner` to the one at place `loser`."""

    winner: int
    loser: int
    rater: str


def judgements(
    responses: Sequence[bytes], criterion: Criterion, *, with_cyclic: bool
) -> Iterator[Judgement]:
    """Yield the labels of all pairs of distinct `responses` to one prompt.

    Every pair goes to one honest rater, in turn, and `with_cyclic` to two cyclic ones as well.
    """
    places = _distinct(responses)
    merit = {place: _merit(responses[place], criterion) for place in places}
    circle = {place: k for k, place in enumerate(sorted(places, key=lambda p: _mix(responses[p])))}
    for number, (one, other) in enumerate(combinations(places, 2)):
        first_wins = merit[one] > merit[other]
        yield _judgement(one, other, HONEST[number % len(HONEST)], first_wins=first_wins)
        if with_cyclic:
            ahead = (circle[other] - circle[one]) % len(places)
            for vote in range(_CYCLIC_VOTES):
                rater = CYCLIC[(_CYCLIC_VOTES * number + vote) % len(CYCLIC)]
                yield _judgement(one, other, rater, first_wins=ahead <= len(places) // 2)


def _judgement(one: int, other: int, rater: str, *, first_wins: bool) -> Judgement:
    return Judgement(one, other, rater) if first_wins else Judgement(other, one, rater)


def _distinct(responses: Sequence[bytes]) -> list[int]:
    """Return the first place of every distinct response: nobody is asked to compare equal ones."""
    return sorted({response: k for k, response in reversed(list(enumerate(responses)))}.values())


def _merit(response: bytes, criterion: Criterion) -> tuple[float, int, bytes]:
    """Return what decides, in order: the criterion, the longest known beginning, the bytes themselves."""
    return criterion.score(response), max(criterion.spelled(response), default=0), response


def _mix(response: bytes) -> bytes:
    return hashlib.blake2b(response, digest_size=8).digest()
