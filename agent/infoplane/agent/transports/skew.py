"""How far this node's clock is from the broker's, where the broker says what time it is.

A topic with `message.timestamp.type=LogAppendTime` answers each delivery with the broker's time. Topics keep the
producer's time by default (CreateTime); then the answer repeats what was sent, no other response of the protocol holds
a time, and there is no estimate.
"""

from __future__ import annotations

import logging
import statistics
from collections import deque
from typing import Final

from infoplane.agent.counters import Counters

NAME: Final = "clock_skew_seconds"
DELIVERIES: Final = 64
FEWEST: Final = 8
LOUD_S: Final = 1.0
_log = logging.getLogger("infoplane.agent")


class ClockSkew:
    """Median over the last 64 deliveries of (broker's time - middle of hand-over and acknowledgement).

    One delivery errs by at most half of the time between the two, which holds the producer's linger and the round trip:
    some ten milliseconds where the broker is well.

    Args:
        counters: takes `clock_skew_seconds`, whose total is the latest estimate.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._seen: deque[float] = deque(maxlen=DELIVERIES)
        self._published = 0.0
        self._has_warned = False

    def note(
        self, produced_ms: int, broker_ms: int | None, sent_s: float, acknowledged_s: float
    ) -> None:
        """Take in one delivery; any thread. Times in Unix seconds or milliseconds."""
        # Equal: the topic keeps the producer's time. Under LogAppendTime that is a coincidence, and costs one sample.
        if broker_ms is not None and broker_ms > 0 and broker_ms != produced_ms:
            self._seen.append(broker_ms / 1000 - (sent_s + acknowledged_s) / 2)

    def seconds(self) -> float | None:
        """Return the skew, positive where the broker's clock is ahead; None while fewer than 8 deliveries say so."""
        seen = self._seen.copy()  # in C: no other thread can append half-way through
        return statistics.median(seen) if len(seen) >= FEWEST else None

    def publish(self) -> None:
        """Bring the counter up to date; say once if the clocks are more than a second apart."""
        found = self.seconds()
        if found is None:
            return
        self._counters.add(NAME, value=found - self._published)
        self._published = found
        if abs(found) > LOUD_S and not self._has_warned:
            self._has_warned = True
            _log.warning(
                "infoplane: this node's clock is %.1f s %s the broker's; windows are cut by steps, but freshness and "
                "deadlines go by clocks",
                abs(found), "behind" if found > 0 else "ahead of",
            )  # fmt: skip
