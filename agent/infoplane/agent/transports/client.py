"""A kafka-python network client that does not spin while it waits for a broker.

While a node is not ready, the producer's IO thread sleeps for `connection_delay`. kafka-python
3.0.12 returns seconds where its caller expects milliseconds, and 0 for a node with five unanswered
requests. So with a stopped or black-holed broker the thread loops without sleeping: measured, 0.92
to 0.97 of a core of pure Python inside the training process. A sleep costs nothing here: whatever
makes the node ready (a connection, a response) wakes the thread.
"""

from __future__ import annotations

from typing import Any, Final

from infoplane.agent.transports.library import KafkaNetClient

MIN_DELAY_MS: Final = 100.0


class PatientClient(KafkaNetClient):  # type: ignore[misc]
    """Waits at least `MIN_DELAY_MS` before it looks again at a node that is not ready."""

    def connection_delay(self, node_id: Any) -> float:
        """Return for how many milliseconds not to look at `node_id`."""
        return max(1000.0 * float(super().connection_delay(node_id)), MIN_DELAY_MS)
