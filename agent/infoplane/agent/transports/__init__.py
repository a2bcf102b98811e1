"""Ways for messages to leave the training process: Kafka, a file, or memory (for tests)."""

from infoplane.agent.transports.base import Outgoing, Transport, TransportFactory
from infoplane.agent.transports.file import FileTransport
from infoplane.agent.transports.kafka import KafkaTransport
from infoplane.agent.transports.memory import MemoryTransport

__all__ = [
    "FileTransport",
    "KafkaTransport",
    "MemoryTransport",
    "Outgoing",
    "Transport",
    "TransportFactory",
]
