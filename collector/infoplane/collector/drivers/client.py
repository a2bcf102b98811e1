"""How every client behind the broker connects: one place for drivers, exporter and command."""

from __future__ import annotations

from typing import Any

from infoplane.collector.settings import KafkaSection
from infoplane.wire.kafka_client import PatientClient


def client_settings(kafka: KafkaSection) -> dict[str, Any]:
    """Settings that every client of the broker shares.

    `api_version` is fixed, so that constructors do not block on a broker that is not there yet.
    """
    return {
        "bootstrap_servers": kafka.bootstrap_servers,
        "api_version": tuple(int(part) for part in kafka.api_version.split(".")),
        "reconnect_backoff_max_ms": 1000,
        "kafka_client": PatientClient,
    }
