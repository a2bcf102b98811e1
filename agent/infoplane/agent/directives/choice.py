"""Which taps a directive really takes out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def taps_to_leave_out(unwanted: frozenset[str], units: Iterable[Sequence[str]]) -> frozenset[str]:
    """Return `unwanted` without the first tap of every unit that would have none left.

    A unit without taps would send no record, and its windows would wait for their deadline. `units` holds the names of
    each unit's own taps; the answer is the same on every rank that has the unit.
    """
    emptied = [names[0] for names in units if names and unwanted.issuperset(names)]
    return unwanted.difference(emptied)
