"""What the exporter answers to tools: runs, series and health as plain JSON values."""

from __future__ import annotations

from typing import Any

from infoplane.exporter.feed import FeedStatus
from infoplane.exporter.points import Point, SeriesId
from infoplane.exporter.store import Snapshot


def run_answer(snapshot: Snapshot, now_s: float) -> dict[str, Any]:
    """Return one run: attempt, newest window and step, ages in seconds."""
    newest = snapshot.newest
    answer: dict[str, Any] = {
        "run": snapshot.run,
        "live": snapshot.live,
        "heard_age_seconds": round(now_s - snapshot.heard_s, 3),
        "series": snapshot.num_series,
        "verdicts": sum(snapshot.verdict_counts.values()),
        "interventions": sum(
            count
            for (_, _, stage), count in snapshot.intervention_counts.items()
            if stage == "proposed"
        ),
        "rejected": snapshot.rejected,
    }
    if newest is not None:
        answer |= {
            "attempt": newest.attempt,
            "window": newest.window,
            "step": newest.last_step,
            "window_age_seconds": round(now_s - newest.clock_s, 3),
        }
    return answer


def series_answer(series: SeriesId, points: list[Point]) -> dict[str, Any]:
    """Return one series with its points, the oldest first."""
    return {"labels": dict(series.labels), "points": [point_answer(point) for point in points]}


def point_answer(point: Point) -> dict[str, Any]:
    """Return one point; what the estimate does not have is null, an undefined value too."""
    return {
        "attempt": point.attempt,
        "window": point.window,
        "first_step": point.first_step,
        "last_step": point.last_step,
        "clock_seconds": point.clock_s,
        "value": None if point.undefined else point.value,
        "undefined": point.undefined or None,
        "n": point.n,
        "completeness": point.completeness,
        "null_mean": point.null_mean,
        "null_sd": point.null_sd,
        "ceiling": point.ceiling,
        "saturated": point.saturated,
        "band_low": point.band_low,
        "band_high": point.band_high,
    }


def health_answer(status: FeedStatus) -> dict[str, Any]:
    """Return whether the exporter reads, and what it waits for if not."""
    return {
        "ok": status.connected and not status.missing,
        "connected": status.connected,
        "missing_topics": list(status.missing),
        "messages": status.messages,
        "decode_errors": status.errors,
        "detail": status.detail,
    }
