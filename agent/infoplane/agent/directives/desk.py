"""Between the reader's thread and the training thread: the latest directive, and when it begins to hold.

    the first window that begins at from_step or later, and after this rank's first step

is the step at which every rank applies a directive. A rank that gets it too late for that applies it at its next
window and counts `config_late`: its records say which version chose the rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Protocol

from infoplane.agent.counters import Counters
from infoplane.agent.directives.directive import (
    Directive,
    Expected,
    RefusedDirectiveError,
    read_directive,
)

CLOSE_S: Final = 1.0
_log = logging.getLogger("infoplane.agent")


class DirectiveSource(Protocol):
    """Hands over framed AgentConfigs of the run, oldest first."""

    def start(self, deliver: Callable[[bytes], bool]) -> None:
        """Begin to call `deliver`, from one thread."""
        ...

    def close(self, timeout_s: float) -> None:
        """Stop calling it, within `timeout_s`."""
        ...


class Desk:
    """Holds the directive with the greatest version.

    Args:
        expected: what directives must fit.
        span: steps in a window.
        counters: takes `config_applied`, `config_late` and `config_refused` by reason.
        source: where directives come from; None: `deliver` is called by somebody else.

    Attributes:
        latest: directive with the greatest version so far; replaced as a whole by the reader's thread.
    """

    def __init__(
        self,
        expected: Expected,
        span: int,
        counters: Counters,
        source: DirectiveSource | None = None,
    ) -> None:
        self.latest: Directive | None = None
        self._expected = expected
        self._span = span
        self._counters = counters
        self._source = source
        self._applied: Directive | None = None
        self._first_step = -1
        self._window = -1
        self._logged: set[str] = set()

    def start(self) -> None:
        """Begin to read; returns at once."""
        if self._source is not None:
            self._source.start(self.deliver)

    def close(self) -> None:
        """Stop reading; at most 1 s."""
        if self._source is not None:
            self._source.close(CLOSE_S)

    # ---------------------------------------------------------------- reader's thread

    def deliver(self, raw: bytes) -> bool:
        """Take one message of the topic `config`; always True. Older versions than the latest are ignored."""
        try:
            directive = read_directive(raw, self._expected)
        except RefusedDirectiveError as refusal:
            self._refuse(refusal)
            return True
        latest = self.latest
        if latest is None or directive.version > latest.version:
            self.latest = directive
        return True

    def _refuse(self, refusal: RefusedDirectiveError) -> None:
        self._counters.add("config_refused", refusal.reason)
        if refusal.reason not in self._logged:
            self._logged.add(refusal.reason)
            _log.warning("infoplane: config refused (%s); more of these are only counted", refusal)

    # ---------------------------------------------------------------- training thread

    def enter(self, step: int) -> Directive | None:
        """Return the directive that begins to hold at `step`, else None. About 0.2 us where nothing is new."""
        window = step // self._span
        if window == self._window:
            return None
        is_boundary = step % self._span == 0 or self._first_step >= 0
        self._window = window
        if self._first_step < 0:
            self._first_step = step
        latest = self.latest
        if latest is None or latest is self._applied or not is_boundary:
            return None
        begin = window * self._span
        if begin < latest.from_step:
            return None
        self._note(latest, begin)
        return latest

    def _note(self, directive: Directive, begin: int) -> None:
        self._applied = directive
        earliest = max(directive.from_step, self._first_step)
        due = -(-earliest // self._span) * self._span
        self._counters.add("config_applied")
        if begin > due:
            self._counters.add("config_late")
        _log.info(
            "infoplane: config version %d holds from step %d (due at %d)",
            directive.version, begin, due,
        )  # fmt: skip
