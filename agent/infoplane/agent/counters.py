"""Counts of what the agent did and dropped.

    records_sent            accepted by the transport
    records_delivered       acknowledged by the broker, or written to the file
    records_dropped         see the reasons below
    bytes_sent              keys and values, before compression
    transport_errors        exceptions of a transport or its factory, by type
    producer_rebuilds       Kafka producers replaced after repeated failures
    beat_errors             heartbeats or farewells that could not be built, by type
    release_errors          parcels whose buffers could not be given back, by type
    close_timeouts          the thread did not end within the bound
    level_changes           levels that the governor raised or lowered
    level_steps             levels summed over steps: over the steps, the mean level
    governor_breaches       sampled steps that found the overhead above target, or above hard
    sidecar_restarts        sidecars started after the first
    events_sent             reward events in messages that the transport accepted
    events_dropped          reward events, see the reasons below
    event_seconds           time in the calls that observed them
    publisher_cpu_seconds   CPU time of the publisher thread
    transport_cpu_seconds   CPU time of the threads that the transport owns; a sidecar's own thread counts as publisher
    scalars_unchanged       numbers left out because of scalars.delta
    config_applied          directives that began to hold; config_late: of these, later than their step said
    config_refused          directives not obeyed, by reason
    novelty_skipped         steps whose rows went by key although some were to go by novelty, by reason
    novelty_errors          errors in the choice by novelty, by type
    clock_skew_seconds      the broker's clock less this node's; no total, its value goes up and down. Absent where the
                            broker keeps the producer's times

Reasons of records_dropped, by who counts them: Publisher.offer says queue_full, byte_budget,
closed, dead (the thread ended) or fork (a forked child offered); the publisher thread says encode,
no_transport (the factory fails), not_accepted (the transport refused), closed or dead; the
transport says delivery, which it learns later.

Besides: no_slot (the publisher holds all slots), no_boundary (a step began before the last one ended), boundary (an
error at the end of a step), not_captured (nothing of a unit was seen in a sampled step, as after an error of its taps),
budget (the governor held sampling), ring_full and sidecar_dead (of the sidecar).

Records and events count apart: a message of events is one record. What drops it says so in both, save delivery, which
is known of messages only; a call that is dropped before it becomes messages is one record. Further reasons of
events_dropped, where no record is lost: budget (beyond events.bytes_per_s), invalid (a wrong call), error (another
exception in a call), device (not computed when the run ended), and byte_budget where too much waits for a device.
"""

from __future__ import annotations

import threading


class Counters:
    """Running totals by (name, reason), added to by any thread without a lock.

    Every thread adds to a dict of its own (about 0.2 us); `snapshot` sums them. So a fork cannot
    inherit a held lock, and the training thread never waits for a thread that lost the GIL inside a
    critical section.
    """

    def __init__(self) -> None:
        self._own = threading.local()
        self._all: list[dict[tuple[str, str], float]] = []

    def add(self, name: str, reason: str = "", value: float = 1) -> None:
        """Add `value` to the total of (`name`, `reason`)."""
        totals: dict[tuple[str, str], float] | None = getattr(self._own, "totals", None)
        if totals is None:
            totals = self._own.totals = {}
            self._all.append(totals)
        key = (name, reason)
        totals[key] = totals.get(key, 0.0) + value

    def snapshot(self) -> dict[tuple[str, str], float]:
        """Return the totals over all threads, sorted by name and reason."""
        total: dict[tuple[str, str], float] = {}
        for totals in list(self._all):
            # copy() runs in C: no other thread can insert a key half-way through.
            for key, value in totals.copy().items():
                total[key] = total.get(key, 0.0) + value
        return dict(sorted(total.items()))

    def total(self, name: str) -> float:
        """Return the total of `name` over all reasons."""
        return sum(value for (found, _), value in self.snapshot().items() if found == name)
