"""What the training loop says about rewards, on its way from the caller's thread to the publisher."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import Any, Final

from infoplane.agent.counters import Counters
from infoplane.agent.outbox import Parcel
from infoplane.agent.projection import Projection
from infoplane.agent.records import Envelope
from infoplane.agent.rewards.device import Arrivals, arrival_of
from infoplane.agent.rewards.errors import EventError
from infoplane.agent.rewards.kinds import EventKind
from infoplane.agent.rewards.messages import EventEncoder
from infoplane.agent.rewards.observation import Call, Observation, take
from infoplane.agent.rewards.parcel import EventParcel

MAX_STREAMS: Final = 64
_STREAM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_POLL_S: Final = 0.001
_CLOSING_SHARE: Final = 0.2  # of exit_timeout_s; the publisher needs the rest
_log = logging.getLogger("infoplane.agent")


class RewardLog:
    """Takes events from any thread; never raises, never waits, never reads a device.

    Calls whose values are still being computed on a device wait here, at most `buffers.queue_bytes` of them, until a
    later call or step boundary finds them there.

    Args:
        envelope: who speaks.
        counters: where everything is counted.
        offer: takes a parcel, or counts its drop.
        current_step: step of an event whose call names none.
        clock: of the byte budget, seconds.
        arrivals: tells when tensors may be read.
    """

    def __init__(
        self,
        envelope: Envelope,
        counters: Counters,
        offer: Callable[[Parcel], bool],
        current_step: Callable[[], int],
        *,
        clock: Callable[[], float] = time.monotonic,
        arrivals: Arrivals = arrival_of,
    ) -> None:
        settings = envelope.settings
        rule = settings.sampling
        self._settings = settings
        self._counters = counters
        self._offer = offer
        self._current_step = current_step
        self._arrivals = arrivals
        self._projection = Projection(rule.projection_dim, rule.projection_seed)
        self._encoder = EventEncoder(envelope, counters, clock)
        self._forms: dict[str, str] = {}
        self._warned: set[str] = set()
        self._waiting: deque[EventParcel] = deque()
        self._handing_over = threading.Lock()
        self._is_closed = False

    def observe(
        self,
        kind: EventKind,
        stream: str,
        step: int | None,
        *,
        contents: Mapping[str, Any],
        numbers: Mapping[str, Any],
        features: Mapping[str, Any],
        mask: Any = None,
    ) -> None:
        """Copy the events of one call and pass them on; what is wrong is counted, and logged once per stream."""
        start = perf_counter()
        call = Call(kind, stream, contents, numbers, features, mask)
        try:
            self._observe(call, step)
        except EventError as error:
            self._refuse(stream, "invalid", _length(contents), error)
        except Exception as error:  # noqa: BLE001 - training goes on
            self._refuse(stream, "error", _length(contents), error)
        self._counters.add("event_seconds", value=perf_counter() - start)

    def hand_over(self) -> None:
        """Offer what has arrived, in order; never waits, not even for another thread that does the same."""
        if not self._handing_over.acquire(blocking=False):
            return
        try:
            while self._waiting and (self._is_closed or _has_arrived(self._waiting[0])):
                self._offer(self._waiting.popleft())
        finally:
            self._handing_over.release()

    def close(self) -> None:
        """Offer what arrives in a part of exit_timeout_s, and drop the rest; later calls are offered at once."""
        deadline = time.monotonic() + _CLOSING_SHARE * self._settings.exit_timeout_s
        self.hand_over()
        while self._waiting and time.monotonic() < deadline:
            time.sleep(_POLL_S)
            self.hand_over()
        while self._waiting:
            self._counters.add("events_dropped", "device", self._waiting.popleft().events)
        self._is_closed = True

    def _observe(self, call: Call, step: int | None) -> None:
        self._check_name(call.stream)
        settings = self._settings
        at = self._current_step() if step is None else step
        seen = take(call, at, self._projection, is_private=settings.tokens.mode == "none")
        if not seen.size:
            return
        self._check_form(seen)
        arrival = self._arrivals(seen.tensors())
        refuse = partial(self._refuse, call.stream, "invalid")
        parcel = EventParcel(self._encoder, seen, seen.nbytes, seen.size, arrival, refuse)
        if sum(p.nbytes for p in self._waiting) + parcel.nbytes > settings.buffers.queue_bytes:
            self._counters.add("events_dropped", "byte_budget", parcel.events)
            return
        self._waiting.append(parcel)
        self.hand_over()

    def _check_name(self, stream: Any) -> None:
        if not isinstance(stream, str) or not _STREAM.fullmatch(stream):
            form = "1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
            raise EventError("stream", form, repr(stream)[:80])
        if stream not in self._forms and len(self._forms) >= MAX_STREAMS:
            raise EventError("stream", f"at most {MAX_STREAMS} names", "one more")

    def _check_form(self, seen: Observation) -> None:
        """Refuse a call that differs from the stream's first one: the collector could not unite the two."""
        if seen.stream not in self._forms:
            self._forms[seen.stream] = seen.form
            # Zeros, so that a reader can tell "none" from "not known".
            self._counters.add("events_sent", value=0)
            self._counters.add("events_dropped", "budget", 0)
        if self._forms[seen.stream] != seen.form:
            known = f"the columns of the stream's first call ({self._forms[seen.stream]})"
            raise EventError("columns", known, f"({seen.form})")

    def _refuse(self, stream: Any, reason: str, events: int, error: Exception) -> None:
        self._counters.add("events_dropped", reason, events)
        name = str(stream)[:64] if isinstance(stream, str) else type(stream).__name__
        if name in self._warned or len(self._warned) >= MAX_STREAMS:
            return
        self._warned.add(name)
        # The text of an error that is not ours could quote a prompt.
        text = str(error) if isinstance(error, EventError) else type(error).__name__
        _log.warning("infoplane: events of stream %r dropped, counted from now on: %s", name, text)


def _has_arrived(parcel: EventParcel) -> bool:
    try:
        return parcel.arrival is None or parcel.arrival.is_done()
    except Exception:  # noqa: BLE001 - a broken device: the publisher will fail to read it, and count that
        return True


def _length(contents: Mapping[str, Any]) -> int:
    """Return how many events a wrong call stood for: the number of prompts, 1 if that cannot be told."""
    try:
        return len(contents["prompt"])
    except Exception:  # noqa: BLE001 - whatever the user passed
        return 1
