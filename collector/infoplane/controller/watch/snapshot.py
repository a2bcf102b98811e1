"""The saved form of a WATCH machine: JSON, since it is only counts and series, and the result being gathered."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from infoplane.collector.packing import pack, unpack
from infoplane.controller.watch.change import MEMORY, ChangeScore
from infoplane.controller.watch.family import Family
from infoplane.controller.watch.latch import Latch
from infoplane.wire import infoplane_pb2 as pb

VERSION = 3


Scores = deque[tuple[int, float]]  # (window, score)


def note(scores: Scores, window: int, score: float) -> None:
    """Keep how unusual a change was; NaN = unknown, not kept."""
    if math.isfinite(score):
        scores.append((window, abs(score)))


def largest_since(scores: Scores, window: int) -> float:
    """Return the largest score from `window` on, 0 if nothing is known."""
    return max((score for at, score in scores if at >= window), default=0.0)


@dataclass(slots=True)
class Gathering:
    """Values of one metric in one window while they come in; `head` is the first of them."""

    head: pb.Result
    values: dict[str, float] = field(default_factory=dict)
    completeness: float = 1.0  # the smallest of them

    def add(self, tap: str, result: pb.Result) -> None:
        """Take in the result of one tap; an undefined one counts as NaN."""
        self.values[tap] = math.nan if result.undefined else result.value
        self.completeness = min(self.completeness, result.completeness)

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return self.head.metric

    @property
    def window(self) -> int:
        """Index of the window."""
        return self.head.window


@dataclass(slots=True)
class WatchState:
    """Everything of one run that outlives a window."""

    run: str
    attempt: int = 0
    families: dict[str, Family] = field(default_factory=dict)
    gathering: Gathering | None = None
    plan: float | None = None
    broken: dict[str, int] = field(
        default_factory=dict
    )  # metric -> window of its last limit verdict
    spans: dict[int, int] = field(default_factory=dict)  # window -> first step
    counts: dict[str, int] = field(default_factory=dict)
    input: ChangeScore = field(default_factory=ChangeScore)  # of the embedding's entropy
    input_scores: Scores = field(default_factory=lambda: deque(maxlen=MEMORY))
    block_scores: Scores = field(default_factory=lambda: deque(maxlen=2 * MEMORY))  # all families
    policy: dict[str, Any] | None = (
        None  # as the policy dumps itself; kept while none is configured
    )


def dump(state: WatchState) -> bytes:
    """Return the state as bytes."""
    gathering = state.gathering
    chunks = [gathering.head.SerializeToString(deterministic=True)] if gathering else []
    head = {
        "run": state.run,
        "attempt": state.attempt,
        "plan": state.plan,
        "broken": state.broken,
        "spans": list(state.spans.items()),
        "counts": state.counts,
        "input": _dump_score(state.input),
        "input_scores": list(state.input_scores),
        "block_scores": list(state.block_scores),
        "families": {name: _dump_family(family) for name, family in state.families.items()},
        # JSON as Python writes it knows NaN, which a value that is undefined has.
        "gathered": [gathering.values, gathering.completeness] if gathering else None,
        "policy": state.policy,
    }
    return pack("watch", VERSION, head, chunks)


def load(data: bytes) -> WatchState:
    """Return the state that `dump` wrote.

    Raises:
        DecodeError: another version, or not such a state.
    """
    head, chunks = unpack("watch", VERSION, data)
    gathering = Gathering(pb.Result.FromString(chunks[0]), *head["gathered"]) if chunks else None
    return WatchState(
        gathering=gathering,
        run=head["run"],
        attempt=head["attempt"],
        families={name: _load_family(family) for name, family in head["families"].items()},
        plan=head["plan"],
        broken=head["broken"],
        spans={int(window): step for window, step in head["spans"]},
        counts=head["counts"],
        input=_load_score(head["input"]),
        input_scores=deque(((w, s) for w, s in head["input_scores"]), MEMORY),
        block_scores=deque(((w, s) for w, s in head["block_scores"]), 2 * MEMORY),
        policy=head["policy"],
    )


def _dump_family(family: Family) -> dict[str, Any]:
    latch = family.latch
    return {
        "threshold": family.threshold,
        "warmup": family.warmup,
        "windows": family.windows,
        "newest": family.newest,
        "latch": [latch.agree, latch.of, latch.cooldown, list(latch.votes), latch.silent_until],
        "scores": {tap: _dump_score(score) for tap, score in family.scores.items()},
    }


def _load_family(dumped: dict[str, Any]) -> Family:
    agree, of, cooldown, votes, silent_until = dumped["latch"]
    latch = Latch(agree, of, cooldown, deque((w, s) for w, s in votes), silent_until)
    scores = {tap: _load_score(score) for tap, score in dumped["scores"].items()}
    return Family(
        dumped["threshold"], dumped["warmup"], latch, scores, dumped["windows"], dumped["newest"]
    )


def _dump_score(score: ChangeScore) -> list[Any]:
    return [list(score.changes), score.last if math.isfinite(score.last) else None]


def _load_score(dumped: list[Any]) -> ChangeScore:
    changes, last = dumped
    return ChangeScore(
        deque(((change, pace) for change, pace in changes), MEMORY),
        math.nan if last is None else last,
    )
