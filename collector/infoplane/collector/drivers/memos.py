"""Reads what a stage has saved in the `state` topic."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message
from kafka import KafkaConsumer, TopicPartition

from infoplane.collector.drivers.client import client_settings
from infoplane.collector.settings import KafkaSection
from infoplane.collector.stage import Saved
from infoplane.wire import DecodeError, decode
from infoplane.wire import infoplane_pb2 as pb
from infoplane.wire.topics import STATE

_log = logging.getLogger(__name__)
QUIET_S = 0.5
LIMIT_S = 30.0


def read_saved(kafka: KafkaSection, stage: str) -> dict[str, Saved]:
    """Return what `stage` saved last of every key.

    Reads the compacted topic from its beginning until all partitions are at their high-water mark; a topic that is
    empty answers nothing for half a second.
    """
    topic = kafka.names.of(STATE)
    states: dict[bytes, pb.StageState] = {}
    consumer = KafkaConsumer(**client_settings(kafka), group_id=None, fetch_max_wait_ms=50)
    try:
        places = [
            TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()
        ]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        began = quiet_since = time.monotonic()
        while places and time.monotonic() - quiet_since < QUIET_S:
            for messages in consumer.poll(timeout_ms=50).values():
                quiet_since = time.monotonic()
                for message in messages:
                    _take(states, stage, message)
            ends = {where: consumer.highwater(where) for where in places}
            if all(end is not None and consumer.position(w) >= end for w, end in ends.items()):
                break
            if time.monotonic() - began > LIMIT_S:
                _log.warning("%s: reading its saved state takes longer than %.0f s", stage, LIMIT_S)
                began = time.monotonic()
    finally:
        consumer.close(autocommit=False, timeout_ms=1_000)
    return collect_saved(states.values())


def collect_saved(states: Iterable[pb.StageState]) -> dict[str, Saved]:
    """Group the newest state of every part by key; a part with an empty payload is forgotten."""
    parts: dict[str, dict[str, bytes]] = {}
    offsets: dict[str, int] = {}
    for state in states:
        kept = parts.setdefault(state.key, {})
        if state.payload:
            kept[state.part] = state.payload
        offsets[state.key] = max(offsets.get(state.key, 0), state.offset)
    return {key: Saved(kept, offsets[key]) for key, kept in parts.items()}


def is_forgotten(message: Message) -> bool:
    """Whether `message` says that a part of a state is gone: it travels as a tombstone, so compaction removes it."""
    return isinstance(message, pb.StageState) and not message.payload


def _take(states: dict[bytes, pb.StageState], stage: str, message: Any) -> None:
    if message.value is None:
        states.pop(message.key, None)
        return
    try:
        state = decode(message.value, pb.StageState)
    except DecodeError as error:
        _log.warning("offset %d of %s: %s", message.offset, message.topic, error)
        return
    if state.stage == stage:
        states[message.key] = state
