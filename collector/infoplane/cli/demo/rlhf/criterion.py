"""What the raters value: a property of a response that anybody can check.

The share of a response's bytes that spell the beginning of a word of the training text. It needs no judge, no labels
and no random numbers. It is dense: whole words alone would be too rare in what a tiny model writes, and nearly all
comparisons would be ties. And it can be over-optimised, as real rewards can: one long word, repeated, scores 1.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

_WORD: Final = re.compile(rb"[A-Za-z_]+")
MIN_OCCURRENCES: Final = 16


@dataclass(frozen=True, slots=True)
class Criterion:
    """Knows the words that count, maximal runs of letters and underscores, by all their beginnings."""

    beginnings: frozenset[bytes]

    @classmethod
    def of_text(cls, text: bytes) -> Criterion:
        """Return the criterion for the words that `text` has at least 16 times."""
        counts = Counter(_WORD.findall(text))
        known = [word for word, n in counts.items() if n >= MIN_OCCURRENCES]
        return cls(frozenset(word[:end] for word in known for end in range(1, len(word) + 1)))

    def spelled(self, response: bytes) -> list[int]:
        """Return for every word of `response` how many of its first bytes begin a known word."""
        return [self._known_length(word) for word in _WORD.findall(response)]

    def score(self, response: bytes) -> float:
        """Return the share of the bytes of `response` that begin a known word, 0..1; 0 when empty."""
        return sum(self.spelled(response)) / max(1, len(response))

    def _known_length(self, word: bytes) -> int:
        ends = range(1, len(word) + 1)
        return max(takewhile(lambda end: word[:end] in self.beginnings, ends), default=0)
