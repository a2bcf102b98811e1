"""Which seeds are for what. No two uses share one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """Ranges of seeds, several sets each, and epochs.

    Attributes:
        training: What the weights are fitted to.
        validation: Watched during training; nothing is stopped or chosen by it in a run.
        seen: Test sets of the families of training.
        unseen: Test sets of families that training never has.
        epochs: Times that training goes over its sets.
        quick: Whether this is the toy of the tests.
    """

    training: range
    validation: range
    seen: range
    unseen: range
    epochs: int
    quick: bool = False


FULL = Plan(
    training=range(7200),
    validation=range(100_000, 100_060),
    seen=range(200_000, 200_100),
    unseen=range(300_000, 300_060),
    epochs=12,
)
QUICK = Plan(
    training=range(8),
    validation=range(100_000, 100_002),
    seen=range(200_000, 200_002),
    unseen=range(300_000, 300_002),
    epochs=30,
    quick=True,
)
