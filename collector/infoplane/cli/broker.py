"""What the command asks a broker directly."""

from __future__ import annotations

import socket
from typing import Final

from infoplane.collector.settings import KafkaSection
from infoplane.wire.errors import ConfigurationError, TransportError

_CONNECT_S: Final = 3.0


def addresses(bootstrap: str) -> list[tuple[str, int]]:
    """Return the (host, port) pairs of `host:port[,host:port...]`.

    Raises:
        ConfigurationError: it is not of that form.
    """
    found = []
    for part in bootstrap.split(","):
        host, colon, port = part.strip().rpartition(":")
        if not colon or not host or not port.isdigit():
            raise ConfigurationError("kafka.bootstrap_servers", bootstrap, "host:port[,host:port]")
        found.append((host.strip("[]"), int(port)))
    return found


def check_reachable(bootstrap: str) -> None:
    """Return when one of the brokers accepts a connection.

    Raises:
        TransportError: none does within a few seconds.
    """
    reasons = []
    for address in addresses(bootstrap):
        try:
            socket.create_connection(address, timeout=_CONNECT_S).close()
        except OSError as error:
            reasons.append(f"{address[0]}:{address[1]} {error.strerror or error}")
        else:
            return
    raise TransportError(f"no broker answers: {'; '.join(reasons)}")


def topics_on(kafka: KafkaSection) -> dict[str, int]:
    """Return name -> number of partitions of every topic on the broker.

    Raises:
        TransportError: it cannot be reached or does not answer.
    """
    from kafka import KafkaConsumer
    from kafka.errors import KafkaError

    from infoplane.collector.drivers.client import client_settings

    check_reachable(kafka.bootstrap_servers)
    try:
        consumer = KafkaConsumer(**client_settings(kafka), group_id=None, request_timeout_ms=10_000)
        try:
            names = consumer.topics()
            return {name: len(consumer.partitions_for_topic(name) or ()) for name in names}
        finally:
            consumer.close(autocommit=False, timeout_ms=1_000)
    except KafkaError as error:
        raise TransportError(f"{kafka.bootstrap_servers}: {error}") from error
