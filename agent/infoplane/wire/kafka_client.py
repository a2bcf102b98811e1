"""kafka-python as infoplane uses it: imported without its warnings, and with a client that does not spin.

kafka-python 3.0.12 calls a deprecated function of importlib for each of its schemas (Python 3.11 and 3.12). A training
job that turns warnings into errors would not survive the import.

While a node is not ready, a client's IO thread sleeps for `connection_delay`. kafka-python 3.0.12 returns seconds where
its caller expects milliseconds, and 0 for a node with five unanswered requests. So with a stopped or black-holed broker
the thread loops without sleeping: measured, 0.89 to 0.98 of a core of pure Python, 0.01 with `PatientClient`. A sleep
costs nothing here: whatever makes the node ready (a connection, a response) wakes the thread.
"""

from __future__ import annotations

import warnings
from typing import Any, Final

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaConsumer, KafkaProducer, TopicPartition
    from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
    from kafka.net.compat import KafkaNetClient

__all__ = [
    "KafkaConsumer",
    "KafkaError",
    "KafkaProducer",
    "MessageSizeTooLargeError",
    "PatientClient",
    "RecordListTooLargeError",
    "TopicPartition",
]

MIN_DELAY_MS: Final = 100.0


class PatientClient(KafkaNetClient):  # type: ignore[misc]
    """Waits at least `MIN_DELAY_MS` before it looks again at a node that is not ready.

    Given to a producer or consumer as its `kafka_client`.
    """

    def connection_delay(self, node_id: Any) -> float:
        """Return for how many milliseconds not to look at `node_id`."""
        return max(1000.0 * float(super().connection_delay(node_id)), MIN_DELAY_MS)
