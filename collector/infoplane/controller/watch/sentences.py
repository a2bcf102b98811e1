"""Verdicts in words: what moved, where, since when and what that pattern usually means."""

from __future__ import annotations

import math
from collections.abc import Mapping

from infoplane.collector.taps import layer_of
from infoplane.controller.watch.family import Agreement
from infoplane.wire import infoplane_pb2 as pb

PATTERNS = {
    "all": "all blocks move together",
    "late": "only the last blocks move",
    "half": "part of the blocks moves",
}
# Damaged data move the embedded input at once and by more of its own noise than any block; a fault of the optimizer
# moves the blocks more than the embedding.
DATA = "the embedded input moved more ({score:.1f}): look at the data, and at the embedding"
MODEL = "the embedded input moved less ({score:.1f}): look at the optimizer and the weights"


def change_verdict(
    head: pb.Result,
    agreed: Agreement,
    values: Mapping[str, float],
    *,
    since_step: int,
    clock_ms: int,
    input_score: float,
    block_score: float,
) -> pb.Verdict:
    """Return the verdict of the change detector; the scores of input and blocks, over all metrics, tell its cause."""
    moved = "rises" if agreed.sign > 0 else "falls"
    blocks = ", ".join(layer_of(tap) for tap in agreed.taps)
    strongest = max((abs(score) for score in agreed.scores.values() if score == score), default=0.0)
    cause = (DATA if input_score >= block_score else MODEL).format(score=input_score)
    sentence = (
        f"{head.metric} {moved} in blocks {blocks} since step {since_step}: change up to "
        f"{strongest:.1f} robust standard deviations against the announced plan; "
        f"{PATTERNS[agreed.pattern]}; {cause}."
    )
    return pb.Verdict(
        run=head.run,
        attempt=head.attempt,
        id=f"{head.run}/{head.attempt}/change/{head.metric}/{head.window}",
        detector="change",
        severity="warning",
        metric=head.metric,
        window=head.window,
        since_step=since_step,
        detected_step=head.last_step,
        clock_ms=max(clock_ms, 0),
        pattern=agreed.pattern,
        sentence=sentence,
        evidence=[
            pb.Evidence(
                labels=[
                    pb.Label(name="layer", value=layer_of(tap)),
                    pb.Label(name="tap", value=tap),
                ],
                value=values.get(tap, math.nan),
                score=agreed.scores[tap],
            )
            for tap in agreed.taps
        ],
    )


def limit_verdict(result: pb.Result, wrong: str, clock_ms: int) -> pb.Verdict:
    """Return the verdict of a hard limit."""
    where = ", ".join(f"{label.name} {label.value}" for label in result.labels)
    value = "" if result.undefined else f" ({result.value:.4g})"
    sentence = (
        f"{result.metric}{f' of {where}' if where else ''} is {wrong}{value} in steps "
        f"{result.first_step} to {result.last_step}."
    )
    return pb.Verdict(
        run=result.run,
        attempt=result.attempt,
        id=f"{result.run}/{result.attempt}/limit/{result.metric}/{result.window}",
        detector="limit",
        severity="critical",
        metric=result.metric,
        window=result.window,
        since_step=result.first_step,
        detected_step=result.last_step,
        clock_ms=max(clock_ms, 0),
        pattern="limit",
        sentence=sentence,
        evidence=[pb.Evidence(labels=result.labels, value=result.value)],
    )
