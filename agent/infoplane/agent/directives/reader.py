"""Where directives come from: the topic `config`, read from its beginning by every rank."""

from __future__ import annotations

import threading
from typing import Any, Final

from infoplane.agent.control.reader import Deliver, KafkaSource
from infoplane.agent.settings import KafkaSettings
from infoplane.agent.transports.quiet import CLIENT_PREFIX
from infoplane.wire.topics import CONFIG, Names

THREAD_NAME: Final = f"{CLIENT_PREFIX}config-reader"


class ConfigSource(KafkaSource):
    """Follows the topic `config` from its beginning, in a thread; whatever the broker does costs training nothing.

    The topic is compacted, so the beginning holds the last directive of every run; those of other runs are skipped by
    their key. After an outage it goes on where it was, and a topic that was made anew is read again.
    """

    def __init__(self, kafka: KafkaSettings, run: str) -> None:
        super().__init__(kafka, run)
        self._topic = Names(kafka.topic_prefix).of(CONFIG)

    def start(self, deliver: Deliver) -> None:
        """Begin to read; returns at once, with or without a broker."""
        self._thread = threading.Thread(
            target=self._run, args=(deliver,), name=THREAD_NAME, daemon=True
        )
        self._thread.start()

    def _assign(self, consumer: Any) -> bool:
        is_found = super()._assign(consumer)
        if is_found:
            consumer.seek_to_beginning()
        return is_found
