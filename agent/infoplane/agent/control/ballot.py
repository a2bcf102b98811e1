"""What ranks write to each other in the rendezvous store to agree on control.

A client of the store does one call after the other, and the training thread's own calls (a new
process group, say) wait behind ours. So only calls that return at once are made: `add`, `check`,
`compare_set`, and `get` of a key that is there. Never `get` or `wait` for one that may not be.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

GO: Final = "go"
NO: Final = "no"


@dataclass(frozen=True, slots=True)
class Tally:
    """How many ranks announced what.

    Attributes:
        on: with control on.
        alike: of those, with this rank's settings and abilities.
        off: with control off.
    """

    on: int
    alike: int
    off: int


@dataclass(frozen=True, slots=True)
class Ballot:
    """The keys of one attempt below `prefix`. Every method is at most three round trips."""

    store: Any
    prefix: str
    fingerprint: str = ""

    def announce(self, *, is_on: bool) -> None:
        """Say that this rank is there."""
        if not is_on:
            self._add("off", 1)
            return
        # The fingerprint first: whoever sees all ranks in `on` sees all their fingerprints too.
        self._add(f"on/{self.fingerprint}", 1)
        self._add("on", 1)

    def tally(self) -> Tally:
        """Return what was announced so far."""
        on, off = self._add("on", 0), self._add("off", 0)
        return Tally(on, self._add(f"on/{self.fingerprint}", 0) if self.fingerprint else 0, off)

    def refuse(self, reason: str) -> str:
        """End control on all ranks; return the reason of whoever came first."""
        return self._first("refused", reason)

    def refusal(self) -> str:
        """Return why a rank ended control; empty if none did."""
        return self._read("refused")

    def propose(self, turn: int, start: int) -> None:
        """Rank 0: propose to begin at the boundary of step `start`."""
        self._first(f"start/{turn}", str(start))

    def proposal(self, turn: int) -> str:
        """Return the step proposed in `turn`; empty if there is none yet."""
        return self._read(f"start/{turn}")

    def vote(self, turn: int, *, is_ready: bool) -> None:
        """Say whether this rank will meet the proposed step or has passed it."""
        self._add(f"{'ready' if is_ready else 'missed'}/{turn}", 1)

    def votes(self, turn: int) -> tuple[int, int]:
        """Return how many ranks are ready, and how many missed it."""
        return self._add(f"ready/{turn}", 0), self._add(f"missed/{turn}", 0)

    def decide(self, turn: int, word: str) -> str:
        """Decide `turn` if nobody has; return what is decided, for everybody and for good."""
        return self._first(f"decision/{turn}", word)

    def decision(self, turn: int) -> str:
        """Return GO, NO or, while it is open, an empty text."""
        return self._read(f"decision/{turn}")

    def _add(self, key: str, amount: int) -> int:
        return int(self.store.add(f"{self.prefix}/{key}", amount))

    def _first(self, key: str, value: str) -> str:
        # An empty expected value means: set it if nobody has.
        return bytes(self.store.compare_set(f"{self.prefix}/{key}", "", value)).decode()

    def _read(self, key: str) -> str:
        name = f"{self.prefix}/{key}"
        return bytes(self.store.get(name)).decode() if self.store.check([name]) else ""
