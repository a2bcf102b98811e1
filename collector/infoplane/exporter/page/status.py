"""What the header says: tiles, each with a judgement, and one banner with the worst news."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import pairwise
from statistics import median
from typing import Final

from infoplane.exporter.feed import FeedStatus
from infoplane.exporter.page.charts import Curves
from infoplane.exporter.points import Point
from infoplane.exporter.store import Snapshot
from infoplane.wire import infoplane_pb2 as pb

GOOD, WARNING, CRITICAL, PLAIN = "good", "warning", "critical", ""
NOTHING: Final = "\u2013"
LEAST_COMPLETENESS: Final = 0.9
MOST_OVERHEAD: Final = 0.01
RECENT_WINDOWS: Final = 100
RECENT_S: Final = 3600.0
_SHORTEST_STALE_S: Final = 30.0
_LATE_FACTOR: Final = 3.0
_GRADES: Final = {"info": 0, "warning": 1, "critical": 2}


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of the header and how it is judged."""

    value: str
    judgement: str = PLAIN


@dataclass(frozen=True, slots=True)
class Banner:
    """The line under the header."""

    judgement: str
    word: str
    text: str
    since: str = ""


def spell_seconds(seconds: float) -> str:
    """Return an age for people: 8 s, 4 min, 3.2 h, 5 d."""
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.0f} d"


def spell_clock(seconds: float) -> str:
    """Return a time of day for people, UTC; with its date, as an intervention may be days old."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def window_interval_s(curves: Curves) -> float | None:
    """Return the usual time between two windows, seconds; None before two are known."""
    longest = max(curves.values(), key=len, default=[])
    gaps = [b.clock_s - a.clock_s for a, b in pairwise(longest[-32:])]
    return median(gaps) if gaps else None


def stale_after_s(interval_s: float | None) -> float:
    """Return the age at which the newest window is late."""
    return max(_SHORTEST_STALE_S, _LATE_FACTOR * (interval_s or 0.0))


def age_tile(age_s: float, stale_s: float) -> Tile:
    """Judge the age of the newest window."""
    judgement = GOOD if age_s < stale_s else WARNING if age_s < 2 * stale_s else CRITICAL
    return Tile(f"{spell_seconds(age_s)} ago", judgement)


def newest_tile(curves: Curves) -> Tile:
    """Return the newest defined value of the only curve."""
    value = _last(curves)
    return Tile(NOTHING if value is None else f"{value:.4g}")


def completeness_tile(curves: Curves) -> Tile:
    """Return the worst completeness of the newest window over units."""
    newest = [points[-1].value for points in curves.values() if points]
    if not newest:
        return Tile(NOTHING)
    return Tile(
        f"{100 * min(newest):.0f} %", GOOD if min(newest) >= LEAST_COMPLETENESS else WARNING
    )


def overhead_tile(curves: Curves) -> Tile:
    """Judge the agents' overhead."""
    value = _last(curves)
    if value is None:
        return Tile(NOTHING)
    return Tile(f"{100 * value:.2f} %", GOOD if value <= MOST_OVERHEAD else WARNING)


def _last(curves: Curves) -> float | None:
    defined = [p for points in curves.values() for p in points[-8:] if not p.undefined]
    return max(defined, key=_window).value if defined else None


def _window(point: Point) -> int:
    return point.window


def banner_of(
    feed: FeedStatus,
    snapshot: Snapshot | None,
    verdicts: list[pb.Verdict],
    age_s: float | None,
    stale_s: float,
) -> Banner:
    """Return the worst news: a blind monitor first, then verdicts, then a silent run."""
    if not feed.connected:
        return Banner(CRITICAL, "MONITOR IS BLIND", feed.detail)
    if snapshot is None or snapshot.newest is None or age_s is None:
        return Banner(WARNING if feed.missing else PLAIN, "WAITING", feed.detail or "no run yet")
    recent = [one for one in verdicts if _is_recent(one, snapshot.newest)]
    if recent:
        return _verdict_banner(recent, snapshot.newest)
    if age_s > stale_s:
        text = (
            f"No new window for {spell_seconds(age_s)}: ended, hanging, or cut off from the broker."
        )
        return Banner(WARNING, "SILENT", text)
    if verdicts:
        past = snapshot.newest.window - verdicts[0].window
        text = f"The newest verdict is {past:,} windows old: {verdicts[0].sentence}"
        return Banner(PLAIN, "NOTHING NEW", text, f"since step {verdicts[0].since_step:,}")
    return Banner(GOOD, "QUIET", "No detector has spoken in this run.")


def _is_recent(verdict: pb.Verdict, newest: Point) -> bool:
    """A verdict is never taken back, so it stays news for many windows, and for an hour at least."""
    if verdict.attempt != newest.attempt:
        return False
    windows, seconds = newest.window - verdict.window, newest.clock_s - verdict.clock_ms / 1000
    return windows <= RECENT_WINDOWS or seconds <= RECENT_S


def _verdict_banner(recent: list[pb.Verdict], newest: Point) -> Banner:
    worst = max(recent, key=lambda one: _GRADES.get(one.severity, 1))  # the newest of equals
    severity = worst.severity if worst.severity in _GRADES else WARNING
    ago = spell_seconds(newest.clock_s - worst.clock_ms / 1000)
    others = f"  (+{len(recent) - 1} more below)" if len(recent) > 1 else ""
    since = f"since step {worst.since_step:,} · {ago} before the newest window"
    return Banner(severity, severity.upper(), worst.sentence + others, since)
