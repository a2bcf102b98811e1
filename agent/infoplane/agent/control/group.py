"""The ranks' own line: one buffer from rank 0 to all, with certainty that all have it.

A broadcast alone is not enough: when one rank is gone, some of the others still get the buffer
(measured: three ranks, the third one gone, the second one had it, rank 0 did not know). A barrier
follows it, which ends on no rank unless every rank has received. So either all ranks act, or none.
"""

from __future__ import annotations

import ctypes
from datetime import timedelta
from typing import Any, Final, Protocol

import numpy as np
import torch
import torch.distributed as dist

BUFFER_BYTES: Final = 1024
_LENGTH_BYTES: Final = 4
# Of an operation in its own thread, not of the training thread: in plain loops, rank 0 may evaluate
# for minutes while the others have posted already.
_OPERATION_S: Final = 3600.0
_LAST_S: Final = 1.0
_SHORTEST_S: Final = 0.01  # torch takes zero milliseconds for "for ever"


class Line(Protocol):
    """Carries one payload at a time."""

    def post(self, payload: bytes) -> None:
        """Begin to send (rank 0) or to receive; returns at once."""
        ...

    def collect(self, timeout_s: float) -> bytes:
        """Return what rank 0 posted, known to have reached every rank.

        Raises:
            RuntimeError: not within `timeout_s`, or the connection broke.
        """
        ...

    def close(self, timeout_s: float) -> None:
        """Wait at most `timeout_s` for what is posted, and end."""
        ...


class Alone:
    """The line of a single rank."""

    def __init__(self) -> None:
        self._payload = b""

    def post(self, payload: bytes) -> None:
        """Keep `payload`."""
        self._payload = payload

    def collect(self, timeout_s: float) -> bytes:
        """Return it."""
        return self._payload

    def close(self, timeout_s: float) -> None:
        """Do nothing."""


class Gloo:
    """A gloo group of all ranks; the constructor waits for them, at most `timeout_s`.

    It is built without torch's registry (`dist.new_group`): that counts groups to name them, so a
    rank on which it fails, or which is not there, would later wait for groups of other names.

    Raises:
        RuntimeError: a rank did not come, or torch was built without gloo.
    """

    def __init__(self, store: Any, prefix: str, rank: int, world: int, timeout_s: float) -> None:
        if not dist.is_gloo_available():
            raise RuntimeError("this torch has no gloo")
        place = dist.PrefixStore(f"{prefix}/gloo", store)  # type: ignore[attr-defined]
        self._group: Any = dist.ProcessGroupGloo(place, rank, world, timedelta(seconds=timeout_s))
        self._is_root = rank == 0
        self._buffer = torch.zeros(BUFFER_BYTES, dtype=torch.uint8)
        self._bytes = self._buffer.numpy()
        self._sending, self._meeting = dist.BroadcastOptions(), dist.BarrierOptions()
        self._sending.rootRank = self._sending.rootTensor = 0
        self._sending.timeout = self._meeting.timeout = timedelta(seconds=_OPERATION_S)
        self._broadcast: Any = None
        self._barrier: Any = None

    def post(self, payload: bytes) -> None:
        """Begin the broadcast and, behind it, the barrier."""
        if self._is_root:
            content = len(payload).to_bytes(_LENGTH_BYTES, "little") + payload
            self._bytes[: len(content)] = np.frombuffer(content, np.uint8)
        self._broadcast = self._group.broadcast([self._buffer], self._sending)
        self._barrier = self._group.barrier(
            self._meeting
        )  # gloo begins it when the broadcast is done

    def collect(self, timeout_s: float) -> bytes:
        """Wait for both, and return the payload."""
        limit = timedelta(seconds=max(timeout_s, _SHORTEST_S))
        self._barrier.wait(limit)
        self._broadcast.wait(limit)
        self._barrier = self._broadcast = None
        content = self._bytes.tobytes()
        length = int.from_bytes(content[:_LENGTH_BYTES], "little")
        return content[_LENGTH_BYTES : _LENGTH_BYTES + length]

    def close(self, timeout_s: float) -> None:
        """Free the group, or leave it behind if a rank does not answer."""
        group, self._group = self._group, None
        if group is None:
            return
        try:
            if self._barrier is not None:  # collected already otherwise
                self.collect(timeout_s)
        except RuntimeError:
            # Its destructor would wait for the operation while it holds the interpreter's lock, and
            # gloo cannot abort one. So it is never destroyed: 1 KB and two sleeping threads.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(group))

    def __del__(self) -> None:
        if getattr(self, "_group", None) is not None:
            self.close(_LAST_S)
