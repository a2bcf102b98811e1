"""What a stage is: a pure state machine per key, between topics it names and nothing else.

A machine never sees Kafka, a file or the wall clock. A driver decodes messages, keeps one machine per key, tells
it the time of its own log and publishes what it returns. The same log through any driver gives equal results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from google.protobuf.message import Message

from infoplane.wire.topics import Topic


@dataclass(frozen=True, slots=True)
class Emission:
    """One message that a machine wants published."""

    topic: Topic
    key: bytes
    message: Message


M_contra = TypeVar("M_contra", bound=Message, contravariant=True)
M = TypeVar("M", bound=Message)


class Machine(Protocol[M_contra]):
    """The state of one key. Messages come in the order of their log; `clock_ms` never runs backwards."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Messages left out, by reason."""
        ...

    def add(self, message: M_contra, clock_ms: int, position: int) -> list[Emission]:
        """Take in one message that stands at `position` of the log.

        Raises:
            infoplane.wire.DecodeError: the content contradicts the schema; the machine is unchanged.
        """
        ...

    def on_timer(self, clock_ms: int) -> list[Emission]:
        """Do what was due at or before `clock_ms`."""
        ...

    def due_ms(self) -> int | None:
        """Return when the next timer is due, None if there is none."""
        ...

    def needed_position(self) -> int | None:
        """Return the smallest log position that a restart must read again, None if none."""
        ...

    def memo(self) -> Mapping[str, bytes]:
        """Return what must outlive a restart besides the log from `needed_position` on, in named parts.

        Asked for when a driver commits. Only parts that changed are written, and those that are gone are deleted, so
        a large state is kept in parts that change one at a time.
        """
        ...

    def to_bytes(self) -> bytes:
        """Return the whole state, versioned."""
        ...


@dataclass(frozen=True, slots=True)
class Saved:
    """What an earlier life of a machine left: the parts of its memo, and how far it had read."""

    parts: Mapping[str, bytes] = field(default_factory=dict)
    offset: int = 0


@dataclass(frozen=True)
class Stage(Generic[M]):
    """One stage: what it reads, how messages find their machine and how a machine begins.

    Attributes:
        is_snapshot: the memo, a single part, is the machine's whole state, so messages before the offset saved with
            it are not given to it again; otherwise the machine rebuilds itself from `needed_position` on.
    """

    name: str
    reads: Topic
    message_type: type[M]
    key_of: Callable[[M], str]
    clock_of: Callable[[M, int], int]  # message, its timestamp -> milliseconds
    begin: Callable[[str, Mapping[str, bytes]], Machine[M]]  # key, parts of the memo
    restore: Callable[[bytes], Machine[M]]
    is_snapshot: bool = False
