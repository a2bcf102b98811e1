"""Creates the topics of infoplane on a broker."""

from __future__ import annotations

from typing import Any, Final

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError

from infoplane.wire.errors import TransportError
from infoplane.wire.topics import TOPICS, Names, Topic

_MAX_MESSAGE_BYTES: Final = 4 << 20
_HOUR_MS: Final = 3_600_000


def create_topics(
    bootstrap: str,
    names: Names,
    *,
    replication: int = 1,
    timeout_s: float = 30.0,
    **client: Any,
) -> list[str]:
    """Create every topic that does not exist yet, and return the full names of those created.

    Args:
        bootstrap: `host:port[,host:port...]`.
        names: the tenant's prefix.
        replication: copies of each partition; min.insync.replicas is left to the broker.
        timeout_s: bound of each request.
        client: more settings of KafkaAdminClient, such as security ones.

    Raises:
        TransportError: no broker answers, or one refuses for another reason than "exists".
    """
    timeout_ms = int(timeout_s * 1000)
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap,
            bootstrap_timeout_ms=timeout_ms,
            request_timeout_ms=timeout_ms,
            **client,
        )
    except KafkaError as error:
        raise TransportError(f"no broker answers at {bootstrap}: {error}") from error
    try:
        return [
            names.of(topic)
            for topic in TOPICS
            if _create(admin, names.of(topic), topic, replication)
        ]
    except KafkaError as error:
        raise TransportError(f"{bootstrap} refuses to create topics: {error}") from error
    finally:
        admin.close()


def _create(admin: Any, name: str, topic: Topic, replication: int) -> bool:
    # One request each: an existing topic must not hide what became of the others.
    settings = {
        "num_partitions": topic.partitions,
        "replication_factor": replication,
        "configs": topic_settings(topic),
    }
    try:
        admin.create_topics({name: settings})
    except TopicAlreadyExistsError:
        return False
    return True


def topic_settings(topic: Topic) -> dict[str, str]:
    """Return the broker settings of `topic`."""
    settings = {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "max.message.bytes": str(_MAX_MESSAGE_BYTES),
    }
    if not topic.compacted:
        settings["retention.ms"] = str(topic.retention_hours * _HOUR_MS)
    return settings
