"""The one error of a call that was made wrongly; caught where it is counted, never seen by the user."""

from __future__ import annotations


class EventError(ValueError):
    """An argument is not what was asked for. Its text names types and shapes, never a content."""

    def __init__(self, name: str, expected: str, found: str) -> None:
        super().__init__(f"{name}: expected {expected}, found {found}")
