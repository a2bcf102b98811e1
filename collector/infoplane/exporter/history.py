"""The past of one series: one point a window, bounded, along one line of attempts.

A restarted job goes back to a checkpoint, so a newer attempt may tell a window again. From its first window on,
what older attempts said is an abandoned branch and is dropped; otherwise the chart would fold back on itself.
"""

from __future__ import annotations

from infoplane.exporter.points import Point


class History:
    """Window -> newest point of that window, at most `limit` windows, the oldest dropped first."""

    __slots__ = ("_attempt", "_limit", "_points")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._points: dict[int, Point] = {}
        self._attempt = -1

    def add(self, point: Point) -> bool:
        """Take in one point; return whether anything changed."""
        if point.attempt != self._attempt and not self._change_attempt(point):
            return False
        known = self._points.get(point.window)
        if known is not None and (known.order > point.order or known == point):
            return False
        self._points[point.window] = point
        while len(self._points) > self._limit:
            del self._points[min(self._points)]
        return True

    def _change_attempt(self, point: Point) -> bool:
        if point.attempt < self._attempt:
            # A branch that was left: it counts up to where a newer attempt took over.
            newer = (w for w, p in self._points.items() if p.attempt > point.attempt)
            return point.window < min(newer)
        self._attempt = point.attempt
        self._points = {w: p for w, p in self._points.items() if w < point.window}
        return True

    def points(self) -> list[Point]:
        """Return the points by window."""
        return [self._points[window] for window in sorted(self._points)]

    def at(self, window: int) -> Point | None:
        """Return the point of `window`, None if it is not held."""
        return self._points.get(window)
