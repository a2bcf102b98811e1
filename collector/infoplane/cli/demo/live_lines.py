"""A demo's progress in a terminal; silent where stderr is none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Generic, TypeVar

from rich.console import Console
from rich.live import Live
from rich.table import Table

S_contra = TypeVar("S_contra", contravariant=True)


class LiveLines(ABC, Generic[S_contra]):
    """A few lines that follow a job, redrawn in place. Writes to stderr only, and moves only if that is a terminal.

    Attributes:
        page: URL of the page, once it is known.
    """

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        self._enabled = self._console.is_terminal
        self.page = ""

    def __enter__(self) -> LiveLines[S_contra]:
        if self._enabled:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._enabled:
            self._live.stop()

    def say(self, message: str) -> None:
        """Write one line above the moving ones."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def update(self, seen: S_contra) -> None:
        """Say what is new, and redraw."""
        self.announce(seen)
        if self._enabled:
            self._live.update(self.table(seen))

    @abstractmethod
    def take_status(self, line: dict[str, Any]) -> None:
        """Take in one status line of the job."""

    @abstractmethod
    def announce(self, seen: S_contra) -> None:
        """Say each thing that is new, once."""

    @abstractmethod
    def table(self, seen: S_contra) -> Table:
        """Return the moving lines."""
