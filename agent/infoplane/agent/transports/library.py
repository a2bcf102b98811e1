"""What the agent uses of kafka-python, imported without its warnings.

kafka-python 3.0.12 calls a deprecated function of importlib for each of its schemas (Python 3.11 and
3.12). A training job that turns warnings into errors would not survive the import.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaProducer
    from kafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError
    from kafka.net.compat import KafkaNetClient

__all__ = [
    "KafkaError",
    "KafkaNetClient",
    "KafkaProducer",
    "MessageSizeTooLargeError",
    "RecordListTooLargeError",
]
