"""The wire contract of infoplane: schema, frame, topics, keys and the error tree.

The lowest package: agents, collectors and exporters import it, it imports none of them. It needs numpy and
protobuf only, so that a training environment can carry it.
"""

from infoplane.wire.errors import (
    ConfigurationError,
    DecodeError,
    InfoplaneError,
    TransportError,
)
from infoplane.wire.frame import Kind, decode, encode
from infoplane.wire.tensors import from_tensor, to_tensor

__all__ = [
    "ConfigurationError",
    "DecodeError",
    "InfoplaneError",
    "Kind",
    "TransportError",
    "decode",
    "encode",
    "from_tensor",
    "to_tensor",
]
