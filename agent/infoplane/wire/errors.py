"""The error tree of infoplane.

InfoplaneError
|-- ConfigurationError (also ValueError)   a setting, flag or file is wrong; names key, value, expected
|-- DecodeError (also ValueError)          bytes on a topic are not a message of this schema
|-- TransportError                         a broker cannot be reached or refuses
`-- UndefinedMetricError (also LookupError) a metric name is not in the registry
"""

from __future__ import annotations


class InfoplaneError(Exception):
    """Base of every error that infoplane raises on purpose."""


class ConfigurationError(InfoplaneError, ValueError):
    """A setting is wrong. The message names the key, the value given and what was expected."""

    def __init__(self, key: str, value: object, expected: str) -> None:
        """Remember the three parts: `key`, the `value` found and what was `expected`."""
        super().__init__(f"{key} = {value!r}: expected {expected}")
        self.key = key
        self.value = value
        self.expected = expected


class DecodeError(InfoplaneError, ValueError):
    """Bytes are not a valid framed message. `reason` is a short word fit for a metric label."""

    def __init__(self, reason: str, detail: str = "") -> None:
        """Remember `reason` (one of infoplane.wire.frame.REASONS) and a `detail` for people."""
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class TransportError(InfoplaneError):
    """A broker cannot be reached, or refused a request for good."""


class UndefinedMetricError(InfoplaneError, LookupError):
    """A metric name is not in the registry."""
